//! The limit: W2 by hand. No plan, no language, no layers: one struct that knows the fields, rules and tables.
//!
//! It parses by a borrowed projection, remembers ids as hashes without pointers, and keeps products by number. What a
//! general engine costs on top is the ratio to this. It reads one partition, so one watermark decides.

use std::collections::BTreeMap;

use memchr::memchr;
use xxhash_rust::xxh3::xxh3_64;

use super::generator::{DISORDER_MS, Records};

/// How long an id is remembered.
const REMEMBERED_MS: i64 = 15 * 60_000;

/// The length of all windows.
const MINUTE_MS: i64 = 60_000;

/// Views, carts, purchases, revenue in units of 10⁻⁹.
pub type Product = [i64; 4];

/// Count, sum in units of 10⁻⁹.
pub type Category = [i64; 2];

/// The program.
pub struct Limit {
    latest: i64,
    /// Up to where all have written that write the partition; at first nobody says so.
    low: i64,
    closed_before: i64,
    ids: Ids,
    products: Names,
    categories: Names,
    open: BTreeMap<i64, (Vec<Product>, Vec<Category>)>,
    /// A day's date as it was read last, and when it began.
    day: ([u8; 10], i64),
    /// Final rows: product and minute.
    pub product_rows: Vec<(i64, u32, Product)>,
    /// Final rows: category and minute.
    pub category_rows: Vec<(i64, u32, Category)>,
    /// Accepted, duplicate, invalid, late.
    pub counts: [u64; 4],
}

struct Event<'a> {
    id: &'a [u8],
    product: &'a [u8],
    kind: &'a [u8],
    timestamp: &'a [u8],
    category: &'a [u8],
    price: Option<i64>,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            latest: i64::MIN / 2,
            low: i64::MAX,
            closed_before: i64::MIN,
            ids: Ids::new(1 << 16),
            products: Names::default(),
            categories: Names::default(),
            open: BTreeMap::new(),
            day: ([0; 10], 0),
            product_rows: Vec::new(),
            category_rows: Vec::new(),
            counts: [0; 4],
        }
    }
}

impl Limit {
    /// Reads all records and closes every window.
    pub fn run(&mut self, records: &Records) {
        for at in 0..records.len() {
            self.take(records.payload(at));
        }
        self.end();
    }

    /// Closes every window.
    pub fn end(&mut self) {
        self.close(i64::MAX);
    }

    /// The name of a product by its number.
    #[must_use]
    pub fn product(&self, number: u32) -> &str {
        self.products.name(number)
    }

    /// The name of a category by its number.
    #[must_use]
    pub fn category(&self, number: u32) -> &str {
        self.categories.name(number)
    }

    /// Hears up to where all have written.
    pub fn bound(&mut self, low: i64) {
        self.low = if self.low == i64::MAX { low } else { self.low.max(low) };
    }

    /// Reads a record.
    pub fn take(&mut self, payload: &[u8]) {
        let column = match project(payload).as_ref().and_then(|event| Some((event, kind(event)?, self.time(event)?))) {
            Some((event, kind, time)) if event.price.is_none_or(|price| price >= 0) => self.count(event, kind, time),
            _ => 2,
        };
        self.counts[column] += 1;
    }

    fn count(&mut self, event: &Event<'_>, kind: usize, time: i64) -> usize {
        let before = self.latest.min(self.low).saturating_sub(DISORDER_MS);
        self.latest = self.latest.max(time);
        let now = self.latest.min(self.low).saturating_sub(DISORDER_MS);
        if self.ids.is_remembered(xxh3_64(event.id), before, time.max(now) + REMEMBERED_MS) {
            return 1;
        }
        let minute = time - time.rem_euclid(MINUTE_MS);
        if minute + MINUTE_MS <= now {
            return 3;
        }
        let product = self.products.number(event.product);
        let category = self.categories.number(event.category);
        let (products, categories) = self.open.entry(minute).or_default();
        if products.len() <= product as usize {
            products.resize(product as usize + 1, [0; 4]);
        }
        if categories.len() <= category as usize {
            categories.resize(category as usize + 1, [0; 2]);
        }
        let price = event.price.unwrap_or_default();
        let row = &mut products[product as usize];
        row[kind] += 1;
        row[3] += if kind == 2 { price } else { 0 };
        let row = &mut categories[category as usize];
        row[0] += 1;
        row[1] += price;
        if now >= self.closed_before {
            self.close(now);
        }
        0
    }

    fn close(&mut self, now: i64) {
        while let Some(first) = self.open.first_entry() {
            let minute = *first.key();
            if minute + MINUTE_MS > now {
                break;
            }
            let (products, categories) = first.remove();
            let used = |row: &(usize, Product)| row.1[..3] != [0; 3];
            let rows = products.into_iter().enumerate().filter(used);
            self.product_rows.extend(rows.map(|(at, row)| (minute, at as u32, row)));
            let rows = categories.into_iter().enumerate().filter(|(_, row)| row[0] > 0);
            self.category_rows.extend(rows.map(|(at, row)| (minute, at as u32, row)));
        }
        self.closed_before = self.open.first_key_value().map_or(now, |(minute, _)| minute + MINUTE_MS);
    }

    /// Reads `2026-01-01T00:00:00.000Z`, with or without milliseconds.
    fn time(&mut self, event: &Event<'_>) -> Option<i64> {
        let text = event.timestamp;
        let digits = |from: usize, to: usize| {
            text[from..to]
                .iter()
                .try_fold(0_i64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
        };
        if text.len() < 20 || text[text.len() - 1] != b'Z' {
            return None;
        }
        if text[..10] != self.day.0 {
            let date: [u8; 10] = text[..10].try_into().ok()?;
            let days = crate::reference::text::days(digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
            self.day = (date, days * 86_400_000);
        }
        let millis = if text.len() == 24 { digits(20, 23)? } else { 0 };
        let seconds = (digits(11, 13)? * 60 + digits(14, 16)?) * 60 + digits(17, 19)?;
        Some(self.day.1 + seconds * 1_000 + millis)
    }
}

fn kind(event: &Event<'_>) -> Option<usize> {
    match event.kind {
        b"view" => Some(0),
        b"add_to_cart" => Some(1),
        b"purchase" => Some(2),
        _ => None,
    }
}

/// Finds the fields that are needed; `None` where one is missing or the record is not one plain object.
fn project(bytes: &[u8]) -> Option<Event<'_>> {
    let (mut id, mut user, mut product, mut kind, mut timestamp, mut category) = (None, None, None, None, None, None);
    let mut price = None;
    let mut at = 1;
    if *bytes.first()? != b'{' {
        return None;
    }
    loop {
        if *bytes.get(at)? != b'"' {
            return None;
        }
        let key_end = at + 1 + memchr(b'"', bytes.get(at + 1..)?)?;
        let key = &bytes[at + 1..key_end];
        if *bytes.get(key_end + 1)? != b':' {
            return None;
        }
        let start = key_end + 2;
        let (text, end) = if *bytes.get(start)? == b'"' {
            let end = start + 1 + memchr(b'"', bytes.get(start + 1..)?)?;
            (Some(&bytes[start + 1..end]), end + 1)
        } else {
            let rest = bytes.get(start..)?;
            (None, start + rest.iter().position(|byte| matches!(byte, b',' | b'}'))?)
        };
        match key {
            b"event_id" => id = Some(text?),
            b"user_id" => user = Some(text?),
            b"product_id" => product = Some(text?),
            b"event_type" => kind = Some(text?),
            b"timestamp" => timestamp = Some(text?),
            b"product_category" => category = Some(text?),
            b"price" => price = Some(units(&bytes[start..end])?),
            _ => {}
        }
        match bytes.get(end)? {
            b',' => at = end + 1,
            b'}' if end + 1 == bytes.len() => break,
            _ => return None,
        }
    }
    user?;
    Some(Event { id: id?, product: product?, kind: kind?, timestamp: timestamp?, category: category?, price })
}

/// Reads a plain number in units of 10⁻⁹.
fn units(text: &[u8]) -> Option<i64> {
    let (sign, text) = text.strip_prefix(b"-").map_or((1, text), |rest| (-1, rest));
    let mut value = 0_i64;
    let mut scale = None;
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                value = value * 10 + i64::from(byte - b'0');
                scale = scale.map(|digits: u32| digits + 1);
            }
            b'.' if scale.is_none() => scale = Some(0),
            _ => return None,
        }
    }
    Some(sign * value * 10_i64.pow(9_u32.checked_sub(scale.unwrap_or(0))?))
}

/// Hashes of ids with the watermark after which each is forgotten; open addressing, forgotten ones dropped on growth.
struct Ids {
    slots: Vec<(u64, i64)>,
    used: usize,
}

impl Ids {
    fn new(slots: usize) -> Self {
        Self { slots: vec![(0, i64::MIN); slots], used: 0 }
    }

    fn is_remembered(&mut self, hash: u64, now: i64, until: i64) -> bool {
        if self.used * 2 > self.slots.len() {
            self.grow(now);
        }
        let slot = self.slot(hash);
        let (_, remembered_until) = self.slots[slot];
        if remembered_until == i64::MIN {
            self.used += 1;
        } else if now <= remembered_until {
            return true;
        }
        self.slots[slot] = (hash, until);
        false
    }

    fn slot(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].1 != i64::MIN && self.slots[at].0 != hash {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self, now: i64) {
        let alive = |slot: &&(u64, i64)| slot.1 != i64::MIN && now <= slot.1;
        let count = self.slots.iter().filter(alive).count();
        let mut grown = Self::new((count * 4).next_power_of_two().max(self.slots.len()));
        for slot in self.slots.iter().filter(alive) {
            let at = grown.slot(slot.0);
            grown.slots[at] = *slot;
        }
        grown.used = count;
        *self = grown;
    }
}

/// Names by number.
#[derive(Default)]
struct Names {
    slots: Vec<(u64, u32)>,
    names: Vec<String>,
}

impl Names {
    fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    fn number(&mut self, name: &[u8]) -> u32 {
        if self.names.len() * 2 >= self.slots.len() {
            let size = (self.slots.len() * 2).max(64);
            let old = std::mem::replace(&mut self.slots, vec![(0, u32::MAX); size]);
            for slot in old.into_iter().filter(|slot| slot.1 != u32::MAX) {
                let at = self.slot(slot.0);
                self.slots[at] = slot;
            }
        }
        let hash = xxh3_64(name);
        let at = self.slot(hash);
        if self.slots[at].1 == u32::MAX {
            self.slots[at] = (hash, self.names.len() as u32);
            self.names.push(String::from_utf8_lossy(name).into_owned());
        }
        self.slots[at].1
    }

    fn slot(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].1 != u32::MAX && self.slots[at].0 != hash {
            at = (at + 1) & mask;
        }
        at
    }
}
