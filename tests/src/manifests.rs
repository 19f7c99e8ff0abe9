//! Random manifests over the shop of [`crate::events`], as text, so that they go through the real front door.

use std::fmt::Write as _;

use crate::random::Random;

/// The bound on disorder that every manifest declares.
pub const OUT_OF_ORDERNESS_MS: i64 = 10_000;

/// Which tables a manifest may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// Every kind.
    All,
    /// Those that are exact beyond the bound too, in every layout: tumbling windows, running totals, funnels, joins.
    ExactWhenLate,
    /// Every kind, over one topic, with groups that are forgotten: exact beyond the bound in one partition.
    InOrder,
}

/// How the log is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Partitions of `clicks`, of `orders`, of `offers`.
    pub partitions: [u64; 3],
}

impl Layout {
    /// Draws a layout.
    pub fn any(random: &mut Random) -> Self {
        Self { partitions: [0; 3].map(|_| 1 + random.below(3)) }
    }

    /// One partition for each topic.
    pub const ONE: Self = Self { partitions: [1; 3] };
}

/// A manifest without its topics, so that it can be had in several layouts.
#[derive(Clone, Debug)]
pub struct Manifest {
    streams: String,
    tables: String,
    alerts: String,
}

impl Manifest {
    /// Draws a manifest.
    pub fn any(random: &mut Random, tables: Tables) -> Self {
        let topics = if tables == Tables::InOrder { "clicks" } else { "clicks, orders" };
        let mut manifest = Self { streams: streams(topics, random), tables: String::new(), alerts: String::new() };
        for number in 0..=random.below(3) {
            manifest.add_table(number, tables, random);
        }
        manifest
    }

    /// The text in a layout.
    #[must_use]
    pub fn text(&self, layout: Layout) -> String {
        let [clicks, orders, offers] = layout.partitions;
        let alerts = if self.alerts.is_empty() { String::new() } else { format!("  alerts:\n{}", self.alerts) };
        format!(
            "apiVersion: clickstream.dev/v1alpha1\nkind: ClickstreamPipeline\nmetadata: {{name: proof}}\nspec:\n  \
             kafka: {{bootstrapServers: [\"kafka:9092\"]}}\n  topics:\n  - {{name: clicks, partitions: {clicks}}}\n  - \
             {{name: orders, partitions: {orders}}}\n  - {{name: offers, partitions: {offers}}}\n  streams:\n{}  \
             tables:\n{}{alerts}",
            self.streams, self.tables
        )
    }

    fn add_table(&mut self, number: u64, tables: Tables, random: &mut Random) {
        let name = format!("table_{number}");
        let kind = match (random.below(12), tables) {
            (4..8, Tables::ExactWhenLate) => 0,
            (kind, _) => kind,
        };
        let lateness = if tables == Tables::All { "0s" } else { lateness(random) };
        match kind {
            0..3 => {
                let window = format!("{{tumbling: {}, allowedLateness: {lateness}}}", duration(random));
                self.aggregate(&name, "events", &window, random);
                self.add_alerts(&name, random);
            }
            3 => {
                let keep_for = if tables == Tables::InOrder { duration(random) } else { "3650d" };
                self.aggregate(&name, "events", &format!("keepFor: {keep_for}"), random);
            }
            4..6 => {
                let (size, every) = *random.pick(&HOPS);
                let window = format!("{{hopping: {{size: {size}, every: {every}}}, allowedLateness: {lateness}}}");
                self.aggregate(&name, "events", &window, random);
                self.add_alerts(&name, random);
            }
            6..8 => {
                let gap = *random.pick(&["1s", "5s", "30s"]);
                let window = format!("{{session: {{gap: {gap}}}, allowedLateness: {lateness}}}");
                self.aggregate(&name, "events", &window, random);
            }
            8..10 => self.funnel(&name, lateness, random),
            _ => {
                let window = format!("{{tumbling: {}}}", duration(random));
                self.aggregate(&name, "promoted", &window, random);
            }
        }
    }

    fn aggregate(&mut self, name: &str, from: &str, window: &str, random: &mut Random) {
        let out = &mut self.tables;
        let _ = writeln!(out, "  - name: {name}\n    from: {from}");
        if random.chance(30) {
            let filter =
                *random.pick(&["kind <> 'other'", "price > 100", "not ok", "total is not null", "quantity % 2 = 0"]);
            let _ = writeln!(out, "    where: \"{filter}\"");
        }
        let group = *random.pick(&["product", "user", "kind, product", "ok", "city", "quantity", "hour, kind", ""]);
        let group = if from == "promoted" { *random.pick(&["offer", "product, kind", ""]) } else { group };
        let window = if window.starts_with('{') { format!("window: {window}") } else { window.to_owned() };
        let _ = writeln!(out, "    {window}");
        if !group.is_empty() {
            let _ = writeln!(out, "    groupBy: [{group}]");
        }
        let _ = writeln!(out, "    select:\n      n: count()");
        for (at, aggregate) in AGGREGATES.iter().enumerate() {
            if random.chance(25) {
                let filter = if random.chance(25) { " filter (where kind = 'view' or price < 50)" } else { "" };
                let _ = writeln!(out, "      a{at}: \"{aggregate}{filter}\"");
            }
        }
        if random.chance(40) {
            let _ = writeln!(out, "      views: \"count() filter (where kind = 'view')\"");
            let _ = writeln!(out, "      money: \"sum(price) filter (where kind = 'buy')\"");
            let _ = writeln!(out, "      rate: \"n / views\"\n      each: \"coalesce(money, 0) / n\"");
        }
        self.emit(random);
    }

    fn emit(&mut self, random: &mut Random) {
        if random.chance(30) {
            let every = *random.pick(&["{every: 1s}", "{every: 20s}", "{every: 0s}"]);
            let _ = writeln!(self.tables, "    emit: {every}");
        }
    }

    fn funnel(&mut self, name: &str, lateness: &str, random: &mut Random) {
        let out = &mut self.tables;
        let within = *random.pick(&["2s", "20s", "2m"]);
        let by = *random.pick(&["user", "product"]);
        let _ =
            writeln!(out, "  - name: {name}\n    from: events\n    funnel:\n      by: {by}\n      within: {within}");
        if random.chance(40) {
            let _ = writeln!(out, "      sameKey: {}", random.pick(&["product", "city"]));
        }
        let undone = if random.chance(50) { ", undoneBy: kind = 'undo'" } else { "" };
        let _ = writeln!(out, "      steps:");
        let steps = *random.pick(&STEPS);
        for (at, step) in steps.iter().enumerate() {
            let undone = if at == 1 { undone } else { "" };
            let _ = writeln!(out, "      - {{name: s{at}, where: \"{step}\"{undone}}}");
        }
        let _ = match random.chance(50) {
            true => writeln!(out, "    window: {{tumbling: {}, allowedLateness: {lateness}}}", duration(random)),
            false => writeln!(out, "    keepFor: 3650d"),
        };
        if random.chance(50) {
            let _ = writeln!(out, "    groupBy: [{}]", random.pick(&["city", "kind", "user"]));
        }
    }

    fn add_alerts(&mut self, table: &str, random: &mut Random) {
        for (at, when) in ALERTS.iter().enumerate() {
            if random.chance(25) {
                let windows = 1 + random.below(3);
                let _ = writeln!(
                    self.alerts,
                    "  - {{name: {}-alert-{at}, table: {table}, when: \"{when}\", for: {windows}}}",
                    table.replace('_', "-")
                );
            }
        }
    }
}

const AGGREGATES: [&str; 22] = [
    "count(price)",
    "sum(price)",
    "sum(quantity)",
    "avg(price)",
    "avg(quantity)",
    "min(price)",
    "max(at)",
    "min(product)",
    "max(quantity)",
    "count(distinct user)",
    "count(distinct price)",
    "approx_distinct(id)",
    "approx_percentile(price, 0.5)",
    "approx_percentile(quantity, 0.95)",
    "first(product)",
    "last(kind)",
    "last_n(3, product)",
    "last_distinct(2, user)",
    "top(2, product)",
    "bool_or(ok)",
    "bool_and(ok)",
    "max(total)",
];

const HOPS: [(&str, &str); 5] = [("10s", "5s"), ("1m", "10s"), ("7s", "2s"), ("1m", "1m"), ("10s", "1s")];

const STEPS: [&[&str]; 4] = [
    &["kind = 'view'", "kind = 'cart'", "kind = 'buy'"],
    &["kind in ('view', 'cart')", "kind in ('cart', 'buy')", "kind = 'buy'", "kind = 'other'"],
    &["kind = 'view'", "kind = 'view'", "kind = 'view'"],
    &["ok", "price > 100"],
];

const ALERTS: [&str; 3] = ["n > 2", "abs(zscore(n, 4)) > 1.1", "zscore(n, 2) < 0 and n < 5"];

fn duration(random: &mut Random) -> &'static str {
    random.pick::<&str>(&["1s", "7s", "1m", "1h"])
}

fn lateness(random: &mut Random) -> &'static str {
    random.pick::<&str>(&["0s", "3s", "1m"])
}

/// The streams, the same but for their rules and how long they remember ids.
fn streams(topics: &str, random: &mut Random) -> String {
    let within = *random.pick(&["1s", "30s", "10m"]);
    let rule = *random.pick(&["price >= 0", "price >= 0 and length(kind) < 6", "not (price < 0)"]);
    format!(
        "  - name: events
    topics: [{topics}]
    key: user
    eventTime: {{field: at, outOfOrderness: 10s}}
    id: {{field: id, deduplicateWithin: {within}}}
    fields:
    - {{name: id, type: string}}
    - {{name: user, type: string, required: true}}
    - {{name: kind, type: string, required: true}}
    - {{name: product, type: string}}
    - {{name: price, type: decimal}}
    - {{name: quantity, type: integer}}
    - {{name: ok, type: boolean}}
    - {{name: at, type: timestamp, required: true}}
    - {{name: city, type: string, path: shop.city}}
    rules:
    - {{name: price-not-negative, check: \"{rule}\"}}
    - {{name: known-kind, check: \"kind in ('view','cart','buy','undo','other')\"}}
    derive:
    - {{name: total, as: price * quantity}}
    - {{name: hour, as: \"extract(hour from at)\"}}
  - name: offers
    topics: [offers]
    key: product
    eventTime: {{field: starts, outOfOrderness: 10s}}
    fields:
    - {{name: offer, type: string, required: true}}
    - {{name: product, type: string, required: true}}
    - {{name: discount, type: decimal}}
    - {{name: starts, type: timestamp, required: true}}
    - {{name: ends, type: timestamp, required: true}}
  - name: promoted
    join:
      left: events
      right: offers
      match: events.product = offers.product
      during: events.at between offers.starts and offers.ends
      within: 1m
"
    )
}
