//! Who may post and who may read: tokens, by the header `Authorization`.

use base64::{Engine as _, prelude::BASE64_STANDARD};

/// Whether `header` (the value of `Authorization`) is `Bearer` and one of `tokens`, or `Basic` with one as the password,
/// which is what a browser asks people for. No list of tokens means everybody, an empty one nobody.
///
/// Takes the same time for every wrong token of one length, so that it cannot be guessed letter by letter.
#[must_use]
pub fn allowed(tokens: Option<&[String]>, header: Option<&[u8]>) -> bool {
    let Some(tokens) = tokens else { return true };
    let Some(given) = header.and_then(given) else { return false };
    tokens.iter().fold(false, |known, token| known | same(token.as_bytes(), &given))
}

/// The token of a header.
fn given(header: &[u8]) -> Option<Vec<u8>> {
    let at = header.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = (&header[..at], header[at..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    let pair = scheme.eq_ignore_ascii_case(b"basic").then(|| BASE64_STANDARD.decode(rest).ok())??;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |differences, (one, other)| differences | (one ^ other));
    one.len() == other.len() && !one.is_empty() && std::hint::black_box(differences) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_token_is_allowed() {
        let tokens = ["first".to_owned(), "second".to_owned()];
        let check = |header: Option<&str>, expected| {
            assert_eq!(allowed(Some(&tokens), header.map(str::as_bytes)), expected, "{header:?}");
        };
        check(Some("Bearer first"), true);
        check(Some("bearer second "), true);
        check(Some("Bearer firs"), false);
        check(Some("Bearer first1"), false);
        check(Some("Bearer "), false);
        check(Some("Basic first"), false);
        check(Some(&format!("basic {}", BASE64_STANDARD.encode("me:second"))), true);
        check(Some(&format!("Basic {}", BASE64_STANDARD.encode("first:"))), false);
        check(Some(&format!("Basic {}", BASE64_STANDARD.encode("first"))), false);
        check(Some("first"), false);
        check(None, false);
        assert!(allowed(None, None));
        assert!(!allowed(Some(&[]), Some(b"Bearer first")));
        assert!(!allowed(Some(&[String::new()]), Some(b"Bearer ")));
    }
}
