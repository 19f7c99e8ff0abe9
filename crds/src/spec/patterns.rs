//! What names look like. The schema carries the pattern; [`crate::shape`] checks it with plain code and says it in words.

/// Names that become part of objects in a cluster.
pub const OBJECT_NAME: &str = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";
/// Names of Secrets, ConfigMaps and hosts.
pub const RESOURCE_NAME: &str = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$";
/// Names of streams and lookups.
pub const STREAM_NAME: &str = "^[a-z]([a-z0-9_-]*[a-z0-9])?$";
/// Names of tables, which databases know as well.
pub const TABLE_NAME: &str = "^[a-z]([a-z0-9_]*[a-z0-9])?$";
/// Names of columns.
pub const COLUMN_NAME: &str = "^[a-zA-Z][a-zA-Z0-9_]*$";
/// Names of topics.
pub const TOPIC_NAME: &str = "^[a-zA-Z0-9][a-zA-Z0-9._-]*$";
/// Names of schemas and tables in PostgreSQL.
pub const SQL_NAME: &str = "^[a-z_][a-z0-9_]*$";
/// Names of Couchbase buckets.
pub const BUCKET_NAME: &str = "^[A-Za-z0-9_.%-]+$";
/// Names of Couchbase scopes.
pub const SCOPE_NAME: &str = "^[A-Za-z0-9_%-]+$";
/// Paths of HTTP addresses.
pub const HTTP_PATH: &str = "^/";

/// Whether `text` matches `pattern`, and what the pattern asks for, in words. `None` for a pattern that is not here.
#[must_use]
pub fn check(pattern: &str, text: &str) -> Option<(bool, &'static str)> {
    let starts = |first: fn(u8) -> bool| text.bytes().next().is_some_and(first);
    let ends = || text.bytes().next_back().is_some_and(lower_or_digit);
    let only = |extra: &str, lower: bool| {
        text.bytes().all(|byte| {
            byte.is_ascii_digit()
                || byte.is_ascii_lowercase()
                || (!lower && byte.is_ascii_uppercase())
                || extra.as_bytes().contains(&byte)
        })
    };
    Some(match pattern {
        OBJECT_NAME => (
            starts(lower_or_digit) && ends() && only("-", true),
            "lower-case letters, digits and hyphens, with a letter or digit at both ends",
        ),
        RESOURCE_NAME => (
            starts(lower_or_digit) && ends() && only("-.", true),
            "lower-case letters, digits, hyphens and dots, with a letter or digit at both ends",
        ),
        STREAM_NAME => (
            starts(|first| first.is_ascii_lowercase()) && ends() && only("_-", true),
            "lower-case letters, digits, underscores and hyphens, beginning with a letter",
        ),
        TABLE_NAME => (
            starts(|first| first.is_ascii_lowercase()) && ends() && only("_", true),
            "lower-case letters, digits and underscores, beginning with a letter",
        ),
        COLUMN_NAME => (
            starts(|first| first.is_ascii_alphabetic()) && only("_", false),
            "letters, digits and underscores, beginning with a letter",
        ),
        TOPIC_NAME => (
            starts(|first| first.is_ascii_alphanumeric()) && only("._-", false),
            "letters, digits, dots, underscores and hyphens, beginning with a letter or digit",
        ),
        SQL_NAME => (
            starts(|first| first.is_ascii_lowercase() || first == b'_') && only("_", true),
            "lower-case letters, digits and underscores, not beginning with a digit",
        ),
        BUCKET_NAME => (only("_.%-", false), "letters, digits and the characters _ . % -"),
        SCOPE_NAME => (only("_%-", false), "letters, digits and the characters _ % -"),
        HTTP_PATH => (text.starts_with('/'), "a path that begins with a slash"),
        _ => return None,
    })
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}
