//! Formats of numbers, as in `user_%04d`.

use engine::value::write_integer;

/// A text with one number in it: `%d`, or `%0Nd` padded with zeros to N digits. `%%` is a percent sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    before: String,
    width: usize,
    after: String,
}

/// Widest number that a pattern may ask for: 2⁶⁴ has twenty digits.
const WIDTH_MAX: usize = 20;

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("format {text:?} is not a text with one %d or %0Nd (N up to {WIDTH_MAX})");
        let mut pattern = Self { before: String::new(), width: 0, after: String::new() };
        let mut found = false;
        let mut rest = text.chars().peekable();
        while let Some(letter) = rest.next() {
            if letter == '%' && rest.peek() != Some(&'%') {
                let digits: String = std::iter::from_fn(|| rest.next_if(char::is_ascii_digit)).collect();
                if found || rest.next() != Some('d') {
                    return Err(wrong());
                }
                found = true;
                pattern.width = parse_width(&digits).ok_or_else(wrong)?;
                continue;
            }
            if letter == '%' {
                rest.next();
            }
            if found { pattern.after.push(letter) } else { pattern.before.push(letter) }
        }
        if found { Ok(pattern) } else { Err(wrong()) }
    }

    /// Appends the text for `number`.
    pub fn write(&self, number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.before.as_bytes());
        let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
        out.extend(std::iter::repeat_n(b'0', self.width.saturating_sub(digits)));
        match i64::try_from(number) {
            Ok(number) => write_integer(number, out),
            Err(_) => out.extend_from_slice(number.to_string().as_bytes()),
        }
        out.extend_from_slice(self.after.as_bytes());
    }

    /// Returns the number whose text is `text`, if there is one.
    #[must_use]
    pub fn number(&self, text: &str) -> Option<u64> {
        let digits = text.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let number = digits.parse().ok()?;
        let mut written = Vec::new();
        self.write(number, &mut written);
        (written == text.as_bytes()).then_some(number)
    }
}

fn parse_width(digits: &str) -> Option<usize> {
    match digits.strip_prefix('0') {
        Some(width) => width.parse().ok().filter(|width| (1..=WIDTH_MAX).contains(width)),
        None => digits.is_empty().then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_printf_does() {
        let check = |pattern: &str, number: u64, text: &str| {
            let pattern = Pattern::parse(pattern).unwrap();
            let mut out = Vec::new();
            pattern.write(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            assert_eq!(pattern.number(text), Some(number));
        };
        check("user_%04d", 7, "user_0007");
        check("user_%04d", 0, "user_0000");
        check("user_%04d", 12_345, "user_12345");
        check("%d", 0, "0");
        check("100%%-%d-é", 99, "100%-99-é");
        check("%020d", u64::MAX, "18446744073709551615");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "user", "%s", "%d %d", "%4d", "%099d", "%", "%0d", "%.2f"] {
            assert!(Pattern::parse(text).unwrap_err().contains("%0Nd"), "{text}");
        }
        assert_eq!(Pattern::parse("user_%04d").unwrap().number("user_007"), None);
    }
}
