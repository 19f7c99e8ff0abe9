//! `realistic: true`: fields that nobody described, filled as a shop would fill them.
//!
//! Everything is said in the manifest's own words (a [`Generator`] each), so that nothing here can be made that people
//! could not write themselves; visitors are the one exception. What a rule allows decides first, then the name, then
//! the type.

use crds::spec::{Any, DecimalRange, Generator, IntegerRange, Now, OneOf, Ordered, SessionOf, Uuid};
use engine::{
    expr::Expr,
    plan::StreamPlan,
    value::{Type, Value},
};

use super::{compile::Way, field::Visitors, pattern::Pattern};

/// Events that a visitor makes before going.
const VISIT_EVENTS: f64 = 12.0;

/// Seconds between two events of a visitor.
const VISIT_SECONDS: f64 = 20.0;

const AGENTS: [(&str, f64); 6] = [
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
        40.0,
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
        28.0,
    ),
    (
        "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
        18.0,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
        8.0,
    ),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0", 4.0),
    ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", 2.0),
];

/// Adds a way for every field of `streams` that has none.
pub fn complete(ways: &mut Vec<(String, Way)>, streams: &[&StreamPlan], rate: f64) {
    let all: Vec<(&StreamPlan, usize)> =
        streams.iter().flat_map(|stream| (0..stream.fields.len()).map(|at| (*stream, at))).collect();
    for (stream, at) in &all {
        let field = &stream.fields[*at];
        if !ways.iter().any(|(name, _)| *name == field.name) {
            let names: Vec<&str> = all.iter().map(|(stream, at)| stream.fields[*at].name.as_str()).collect();
            ways.push((field.name.clone(), way(stream, *at, &names, rate)));
        }
    }
}

fn way(stream: &StreamPlan, at: usize, names: &[&str], rate: f64) -> Way {
    let field = &stream.fields[at];
    let name = field.name.to_ascii_lowercase();
    let is = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let beside =
        |parts: &[&str]| names.iter().find(|name| parts.iter().any(|part| name.to_ascii_lowercase().contains(part)));
    if let Some(values) = allowed(stream, at) {
        return Way::Given(allowed_values(&values));
    }
    let user = beside(&["user_id", "userid", "visitor", "customer_id"]).map(|name| (*name).to_owned());
    let product = beside(&["product_id", "productid", "sku", "item_id"]).map(|name| (*name).to_owned());
    Way::Given(match field.ty {
        Type::Timestamp => Generator { now: Some(Now::default()), ..Generator::default() },
        Type::String if stream.deduplicate.as_ref().is_some_and(|id| id.column == at) => uuid(),
        Type::String if Some(&field.name) == user.as_ref() => return visitor(rate),
        Type::String if Some(&field.name) == product.as_ref() => popular("prod_%04d", 1_000),
        Type::String if is(&["session", "visit"]) && user.is_some() => Generator {
            session_of: user.map(|key| SessionOf {
                key,
                idle: crds::spec::Duration::seconds(1_800),
                format: "session_%08d".into(),
            }),
            ..Generator::default()
        },
        Type::String if is(&["user_agent", "useragent"]) => weighted(&AGENTS),
        Type::String if is(&["action", "event_type", "eventtype", "event_name"]) => {
            weighted(&[("view", 70.0), ("add_to_cart", 20.0), ("purchase", 10.0)])
        }
        Type::String if is(&["email"]) => template(user, "{}@example.com", "someone@example.com"),
        Type::String if is(&["url", "page", "path"]) => template(product, "/product/{}", "/"),
        Type::String if is(&["referrer", "referer", "source"]) => {
            weighted(&[("https://www.google.com/", 50.0), ("direct", 35.0), ("https://mail.example.com/", 15.0)])
        }
        Type::String if is(&["device"]) => weighted(&[("mobile", 58.0), ("desktop", 36.0), ("tablet", 6.0)]),
        Type::String if is(&["category"]) => fixed(
            weighted(&[("Electronics", 30.0), ("Clothing", 25.0), ("Home", 20.0), ("Books", 15.0), ("Sports", 10.0)]),
            product,
        ),
        Type::String if is(&["country"]) => {
            weighted(&[("DE", 40.0), ("US", 25.0), ("GB", 15.0), ("FR", 12.0), ("PL", 8.0)])
        }
        Type::String if is(&["payment"]) => weighted(&[("card", 60.0), ("paypal", 30.0), ("transfer", 10.0)]),
        Type::String if name.ends_with("_id") || name == "id" => {
            popular(&format!("{}_%05d", name.trim_end_matches("_id")), 10_000)
        }
        Type::String => weighted(&[("a", 60.0), ("b", 30.0), ("c", 10.0)]),
        Type::Decimal if is(&["price", "cost"]) => fixed(decimal(5.0, 500.0), product),
        Type::Decimal if is(&["discount"]) => decimal(0.05, 0.5),
        Type::Decimal => decimal(1.0, 1_000.0),
        Type::Integer if is(&["quantity", "count"]) => weighted(&[("1", 75.0), ("2", 17.0), ("3", 6.0), ("4", 2.0)]),
        Type::Integer => Generator { integer: Some(IntegerRange { min: 0, max: 1_000 }), ..Generator::default() },
        Type::Boolean => weighted(&[("true", 50.0), ("false", 50.0)]),
        Type::List => Generator::default(),
    })
}

/// The values that a rule `field in (…)` allows.
fn allowed(stream: &StreamPlan, at: usize) -> Option<Vec<Value>> {
    stream.rules.iter().find_map(|rule| match &rule.check {
        Expr::In(column, values) if matches!(**column, Expr::Column(id, _) if id == at) => Some(values.clone()),
        _ => None,
    })
}

/// Earlier values are likelier: people write `view` before `purchase`.
fn allowed_values(values: &[Value]) -> Generator {
    let weight = |at: usize| 100.0 / ((at + 1) * (at + 1)) as f64;
    let text = |value: &Value| match value {
        Value::String(text) => text.to_string(),
        other => {
            let mut out = Vec::new();
            other.write_json(&mut out);
            String::from_utf8_lossy(&out).into_owned()
        }
    };
    let weighted = values.iter().enumerate().map(|(at, value)| (text(value), weight(at))).collect();
    Generator { weighted: Some(Ordered(weighted)), ..Generator::default() }
}

fn visitor(rate: f64) -> Way {
    let places = (rate * VISIT_SECONDS).clamp(20.0, 1e7);
    Way::Visitor(Visitors {
        pattern: Pattern::parse("user_%07d").expect("the pattern is well-formed"),
        count: (places * 50.0) as u64,
        places: places as u64,
        stay: (places * VISIT_EVENTS) as u64,
    })
}

/// A few are wanted by many: the shares of the first twenty fall as those of words in a language do.
fn popular(format: &str, count: u64) -> Generator {
    let pattern = Pattern::parse(format).expect("the pattern is well-formed");
    let share = (1..=20_u64).map(|number| {
        let mut name = Vec::new();
        pattern.write(number, &mut name);
        (String::from_utf8_lossy(&name).into_owned(), 0.1 / number as f64)
    });
    Generator { one_of: Some(OneOf { format: format.into(), count, share: share.collect() }), ..Generator::default() }
}

fn uuid() -> Generator {
    Generator { uuid: Some(Uuid {}), ..Generator::default() }
}

fn weighted(values: &[(&str, f64)]) -> Generator {
    let values = values.iter().map(|(value, weight)| ((*value).to_owned(), *weight)).collect();
    Generator { weighted: Some(Ordered(values)), ..Generator::default() }
}

fn decimal(min: f64, max: f64) -> Generator {
    Generator { decimal: Some(DecimalRange { min, max, digits: 2 }), ..Generator::default() }
}

fn fixed(generator: Generator, per: Option<String>) -> Generator {
    Generator { fixed_per: per, ..generator }
}

fn template(field: Option<String>, with: &str, without: &str) -> Generator {
    match field {
        Some(field) => {
            Generator { template: Some(with.replace("{}", &format!("{{{field}}}"))), ..Generator::default() }
        }
        None => Generator { constant: Some(Any(without.into())), ..Generator::default() },
    }
}
