//! W2: events of a shop in medallion's shape, the same bytes on every machine.
//!
//! 1,000 events for each second of event time, out of order by up to 30 seconds, 50,000 users, 1,000 products, 1 %
//! duplicates, 0.5 % invalid. Records are keyed by user; a partition is one buffer with the bounds of its records.

use std::io::Write as _;

use engine::time::write_rfc3339;

use crate::random::Random;

/// Event time of the first event: 2026-01-01T00:00:00Z.
pub const START_MS: i64 = 1_767_225_600_000;

/// No event is later than the latest before it by more than this.
pub const DISORDER_MS: i64 = 30_000;

/// How many products there are.
pub const PRODUCTS: u64 = 1_000;

/// How many promotions the join has: five for each product.
pub const PROMOTIONS: u64 = 5 * PRODUCTS;

const USERS: u64 = 50_000;
const CATEGORIES: [&str; 5] = ["Electronics", "Clothing", "Home", "Books", "Sports"];
const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];

/// How far back a duplicate reaches, in records of its partition.
const DUPLICATE_REACH: u64 = 1_000;

/// Records of one partition, side by side.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// All payloads.
    pub bytes: Vec<u8>,
    /// Where each ends.
    pub ends: Vec<usize>,
}

impl Records {
    /// The payload of a record.
    #[must_use]
    pub fn payload(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    /// The number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes what was written behind the last record as one more.
    pub fn seal(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// Makes `count` events, laid out over `partitions` by user.
#[must_use]
pub fn events(count: u64, partitions: usize) -> Vec<Records> {
    events_with_hot_product(count, partitions, 0)
}

/// As [`events`], with so many of a hundred about the first product.
#[must_use]
pub fn events_with_hot_product(count: u64, partitions: usize, percent: u64) -> Vec<Records> {
    let mut all: Vec<Records> = (0..partitions).map(|_| Records::default()).collect();
    let per_partition = count as usize / partitions;
    for records in &mut all {
        records.bytes.reserve(per_partition * 300);
        records.ends.reserve(per_partition * 11 / 10);
    }
    let mut random = Random::new(42);
    for number in 0..count {
        let user = random.below(USERS);
        let records = &mut all[(user % partitions as u64) as usize];
        if random.below(1_000) < 10 && !records.is_empty() {
            let back = 1 + random.below(DUPLICATE_REACH.min(records.len() as u64)) as usize;
            let end = records.ends[records.len() - back];
            let start = end - records.payload(records.len() - back).len();
            records.bytes.extend_from_within(start..end);
        } else {
            let is_hot = percent > 0 && random.chance(percent);
            write_event(number, (user, is_hot), &mut random, &mut records.bytes);
        }
        records.seal();
    }
    all
}

fn write_event(number: u64, (user, is_hot): (u64, bool), random: &mut Random, out: &mut Vec<u8>) {
    let product = if is_hot { 0 } else { random.below(PRODUCTS) };
    let category = CATEGORIES[(product % 5) as usize];
    let cents = 500 + product * 49_500 / PRODUCTS;
    let mut kind = match random.below(100) {
        0..70 => "view",
        70..90 => "add_to_cart",
        _ => "purchase",
    };
    let (mut sign, mut quote) = ("", "\"");
    let defect = random.below(1_000);
    match defect {
        0 | 1 => kind = "hover",
        2 => sign = "-",
        3 => quote = "",
        _ => {}
    }
    let at = START_MS + number as i64 - random.below(DISORDER_MS as u64) as i64;
    let begin = out.len();
    let _ = write!(
        out,
        "{{\"event_id\":\"evt_{number:08}\",\"user_id\":{quote}user_{user:05}{quote},\"product_id\":\"prod_{product:04}\",\
         \"event_type\":\"{kind}\",\"timestamp\":\""
    );
    write_rfc3339(at, out);
    let device = DEVICES[(user % 3) as usize];
    let session = number / 100_000 * USERS + user;
    let _ = write!(
        out,
        "\",\"session_id\":\"session_{session:07}\",\"product_category\":\"{category}\",\"device_type\":\"{device}\",\
         \"page_url\":\"/product/prod_{product:04}\",\"price\":{sign}{}.{:02}}}",
        cents / 100,
        cents % 100,
    );
    if defect == 4 {
        out.truncate(begin + (out.len() - begin) / 2);
    }
}

/// Makes the promotions: five for each product, each a quarter of an hour long, spread over the events' time.
#[must_use]
pub fn promotions(events: u64) -> Records {
    let mut random = Random::new(43);
    let mut starts: Vec<i64> = (0..PROMOTIONS).map(|_| START_MS + random.below(events.max(1)) as i64).collect();
    starts.sort_unstable();
    let mut records = Records::default();
    for (number, start) in starts.into_iter().enumerate() {
        let product = number as u64 % PRODUCTS;
        let out = &mut records.bytes;
        let _ = write!(
            out,
            "{{\"promotion_id\":\"promo_{number:05}\",\"product_id\":\"prod_{product:04}\",\"starts_at\":\""
        );
        write_rfc3339(start, out);
        out.extend_from_slice(b"\",\"ends_at\":\"");
        write_rfc3339(start + 15 * 60_000, out);
        let _ = write!(out, "\",\"discount\":0.{}}}", 1 + number % 5);
        records.seal();
    }
    records
}
