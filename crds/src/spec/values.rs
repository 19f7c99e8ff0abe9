//! Values that are text in a manifest and something better in a program: durations, sizes, ordered maps.

use std::{borrow::Cow, fmt, marker::PhantomData, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

/// What a duration looks like; the schema carries it.
pub const DURATION_PATTERN: &str = "^([0-9]+(ms|s|m|h|d|w))+$";
/// What a size looks like; the schema carries it.
pub const SIZE_PATTERN: &str = "^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$";

const DURATION_UNITS: [(&str, i64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];
/// Longest duration: 100 years. Sums of two of them and any event time stay far inside 64 bits.
const DURATION_MS_MAX: i64 = 100 * 366 * 86_400_000;

/// A length of time, written `15m`, `30s`, `7d` or `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    /// Milliseconds, never negative.
    pub millis: i64,
}

impl Duration {
    /// Makes a duration of whole seconds.
    #[must_use]
    pub const fn seconds(seconds: i64) -> Self {
        Self { millis: seconds * 1_000 }
    }

    /// Returns the standard library's duration.
    #[must_use]
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.millis.unsigned_abs())
    }
}

/// Text that is not a duration or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadValue(pub &'static str);

impl FromStr for Duration {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        const SHAPE: BadValue = BadValue("a number and a unit (ms, s, m, h, d, w) such as 15m, 7d or 1h30m");
        const LONG: BadValue = BadValue("a duration of at most 100 years");
        let mut rest = text;
        let mut millis = 0_i64;
        if rest.is_empty() {
            return Err(SHAPE);
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at(letters);
            let factor = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or(SHAPE)?.1;
            if number.is_empty() {
                return Err(SHAPE);
            }
            let part = number.parse::<i64>().ok().and_then(|number| number.checked_mul(factor)).ok_or(LONG)?;
            millis = millis.checked_add(part).filter(|sum| *sum <= DURATION_MS_MAX).ok_or(LONG)?;
            rest = tail;
        }
        Ok(Self { millis })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millis == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.millis;
        // Weeks are read but not written: nobody expects 7d to become 1w.
        for (unit, factor) in &DURATION_UNITS[1..] {
            if rest >= *factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

/// A number of bytes, written `256Mi` or `1G`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size {
    /// Bytes.
    pub bytes: u64,
}

impl Size {
    /// Makes a size of whole mebibytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self { bytes: count << 20 }
    }
}

impl FromStr for Size {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        const SHAPE: BadValue = BadValue("a whole number of bytes with an optional unit (Ki, Mi, Gi, Ti, k, M, G, T)");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "" => 1,
            _ => SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(SHAPE)?.1,
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or(SHAPE)?;
        Ok(Self { bytes })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in SIZE_UNITS[..4].iter().rev() {
            if self.bytes >= *factor && self.bytes.is_multiple_of(*factor) {
                return write!(f, "{}{unit}", self.bytes / factor);
            }
        }
        write!(f, "{}", self.bytes)
    }
}

macro_rules! text_value {
    ($name:ident, $label:literal, $pattern:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|problem: BadValue| de::Error::custom(format!("expected {problem}")))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $label.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "maxLength": 32 })
            }
        }
    };
}

text_value!(Duration, "Duration", DURATION_PATTERN);
text_value!(Size, "Size", SIZE_PATTERN);

/// A map that keeps the order in which it was written, so that tables show their columns as the author meant them.
/// (A Kubernetes API server sorts keys; there the order is alphabetical.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered<V>(pub Vec<(String, V)>);

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Ordered<V> {
    /// Returns the value under `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Iterates in the written order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<V: Serialize> Serialize for Ordered<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Ordered<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> de::Visitor<'de> for Entries<V> {
            type Value = Ordered<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Ordered(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

impl<V: JsonSchema> JsonSchema for Ordered<V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Ordered_{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<V>();
        json_schema!({ "type": "object", "additionalProperties": value, "maxProperties": 256 })
    }
}

/// Any JSON value: the constants of generators, the events of tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Any(pub serde_json::Value);

impl JsonSchema for Any {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Any".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_in_units() {
        let check = |text: &str, want: Option<(i64, &str)>| {
            let got = text.parse::<Duration>().ok().map(|duration| (duration.millis, duration.to_string()));
            assert_eq!(got, want.map(|(millis, text)| (millis, text.to_owned())), "{text:?}");
        };
        check("15m", Some((900_000, "15m")));
        check("1h30m", Some((5_400_000, "1h30m")));
        check("90m", Some((5_400_000, "1h30m")));
        check("1w", Some((604_800_000, "7d")));
        check("250ms", Some((250, "250ms")));
        check("0s", Some((0, "0s")));
        check("", None);
        check("5", None);
        check("m", None);
        check("5 m", None);
        check("-5m", None);
        check("1.5h", None);
        check("15min", None);
        check("99999999999999999999d", None);
        check("9999999d", None);
    }

    #[test]
    fn sizes_are_read_and_written_in_units() {
        let check = |text: &str, want: Option<(u64, &str)>| {
            let got = text.parse::<Size>().ok().map(|size| (size.bytes, size.to_string()));
            assert_eq!(got, want.map(|(bytes, text)| (bytes, text.to_owned())), "{text:?}");
        };
        check("256Mi", Some((268_435_456, "256Mi")));
        check("1k", Some((1_000, "1000")));
        check("17", Some((17, "17")));
        check("0", Some((0, "0")));
        check("Mi", None);
        check("1.5Gi", None);
        check("1mi", None);
        check("99999999999999Ti", None);
    }
}
