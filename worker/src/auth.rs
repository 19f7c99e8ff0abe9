//! Who may post: bearer tokens.

/// Whether `header` (the value of `Authorization`) is `Bearer` and one of `tokens`. No list of tokens means everybody,
/// an empty one nobody.
///
/// Takes the same time for every wrong token of one length, so that it cannot be guessed letter by letter.
#[must_use]
pub fn allowed(tokens: Option<&[String]>, header: Option<&[u8]>) -> bool {
    let Some(tokens) = tokens else { return true };
    let Some((scheme, given)) = header.and_then(|header| header.split_at_checked(7)) else { return false };
    let known = tokens.iter().fold(false, |known, token| known | same(token.as_bytes(), given.trim_ascii()));
    scheme.eq_ignore_ascii_case(b"bearer ") && known
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
        check(Some("first"), false);
        check(None, false);
        assert!(allowed(None, None));
        assert!(!allowed(Some(&[]), Some(b"Bearer first")));
        assert!(!allowed(Some(&[String::new()]), Some(b"Bearer ")));
    }
}
