//! Finds one field of a JSON object without parsing the rest: for the key of a record and for its time.
//!
//! A scan, not a parser: on text that is no JSON it finds something or nothing, but never panics and never reads
//! twice. Whether a record is valid is the decoder's business, behind the log.

use std::borrow::Cow;

use memchr::memchr2;

/// Returns the bytes of the value at `path` (object keys from the outside in), strings with their quotes. Of
/// duplicate keys the last wins, as in the decoder.
#[must_use]
pub fn find<'a>(text: &'a [u8], path: &[String]) -> Option<&'a [u8]> {
    let (first, rest) = path.split_first()?;
    let value = member(text, first.as_bytes())?;
    if rest.is_empty() { Some(value) } else { find(value, rest) }
}

/// Returns what keys a record: the text of a string, unescaped, or the literal of a number or boolean. Null and
/// whatever is nested key nothing.
#[must_use]
pub fn key(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    match value.first()? {
        b'"' => text(value),
        b'n' | b'{' | b'[' => None,
        _ => Some(Cow::Borrowed(value)),
    }
}

/// Returns the text of a quoted string without its quotes and escapes.
#[must_use]
pub fn text(quoted: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    if memchr::memchr(b'\\', inner).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let owned: String = serde_json::from_slice(quoted).ok()?;
    Some(Cow::Owned(owned.into_bytes()))
}

fn member<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut at = skip_space(text, 0);
    if text.get(at) != Some(&b'{') {
        return None;
    }
    let mut found = None;
    at += 1;
    loop {
        at = skip_space(text, at);
        if text.get(at) != Some(&b'"') {
            return found;
        }
        let Some(key_end) = string_end(text, at) else { return found };
        let key = &text[at + 1..key_end - 1];
        at = skip_space(text, key_end);
        if text.get(at) != Some(&b':') {
            return found;
        }
        let start = skip_space(text, at + 1);
        let Some(end) = value_end(text, start) else { return found };
        if key == name || (key.contains(&b'\\') && escaped_is(key, name)) {
            found = Some(&text[start..end]);
        }
        at = skip_space(text, end);
        if text.get(at) != Some(&b',') {
            return found;
        }
        at += 1;
    }
}

fn escaped_is(key: &[u8], name: &[u8]) -> bool {
    let quoted = [b"\"", key, b"\""].concat();
    serde_json::from_slice::<String>(&quoted).is_ok_and(|key| key.as_bytes() == name)
}

#[inline]
fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// Returns the place behind the string whose opening quote is at `start`.
#[inline]
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Returns the place behind the value that begins at `start`; an empty value is none.
#[inline]
pub(crate) fn value_end(text: &[u8], start: usize) -> Option<usize> {
    match text.get(start)? {
        b'"' => string_end(text, start),
        b'{' | b'[' => nested_end(text, start),
        _ => {
            let rest = &text[start..];
            let end = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t');
            let len = rest.iter().position(end).unwrap_or(rest.len());
            (len > 0).then_some(start + len)
        }
    }
}

fn nested_end(text: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match text.get(at)? {
            b'"' => {
                at = string_end(text, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, path: &str, expected: Option<&str>) {
        let path: Vec<String> = path.split('.').map(String::from).collect();
        let found = find(text.as_bytes(), &path).and_then(key);
        let found = found.map(|key| String::from_utf8(key.into_owned()).unwrap());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn a_key_is_found_wherever_it_stands() {
        check(r#"{"user_id":"u1"}"#, "user_id", Some("u1"));
        check(r#" { "a" : [1,{"user_id":"no"}] , "user_id" : "u1" } "#, "user_id", Some("u1"));
        check(r#"{"a":"\"user_id\":","user_id":"ü\n"}"#, "user_id", Some("ü\n"));
        check(r#"{"a":1,"user_id":17,"b":2}"#, "user_id", Some("17"));
        check(r#"{"user_id":true}"#, "user_id", Some("true"));
        check(r#"{"user_id":"first","user_id":"last"}"#, "user_id", Some("last"));
        check(r#"{"user\u005fid":"u1"}"#, "user_id", Some("u1"));
        check(r#"{"user":{"name":{"id":"u1"}},"id":"no"}"#, "user.name.id", Some("u1"));
        check(r#"{"user_id":""}"#, "user_id", Some(""));
    }

    #[test]
    fn what_is_not_there_keys_nothing() {
        check(r#"{"user_id":null}"#, "user_id", None);
        check(r#"{"user_id":{"a":1}}"#, "user_id", None);
        check(r#"{"other":"u1"}"#, "user_id", None);
        check(r#"{"user_id""#, "user_id", None);
        check(r#"{"user_id":"never closed"#, "user_id", None);
        check(r#"{"user_id":"ends in an escape\"#, "user_id", None);
        check(r#"["user_id","u1"]"#, "user_id", None);
        check("", "user_id", None);
    }

    proptest! {
        #[test]
        fn any_object_gives_its_field(members: std::collections::BTreeMap<String, String>, name: String, value: String) {
            let mut object: serde_json::Map<String, serde_json::Value> =
                members.into_iter().map(|(key, value)| (key, value.into())).collect();
            object.insert(name.clone(), value.clone().into());
            let text = serde_json::to_vec(&object).unwrap();
            let found = find(&text, &[name]).and_then(key).map(Cow::into_owned);
            prop_assert_eq!(found, Some(value.into_bytes()));
        }

        #[test]
        fn garbage_never_panics(text: Vec<u8>) {
            let _ = find(&text, &["a".into()]);
            let _ = key(&text);
        }

        #[test]
        fn almost_json_never_panics(text in "[\\[\\]{}\":,a\\\\ 1]{0,40}") {
            let _ = find(text.as_bytes(), &["a".into()]);
        }
    }
}
