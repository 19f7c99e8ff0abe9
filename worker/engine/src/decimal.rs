//! Exact decimals with nine fraction digits: the `NUMERIC` of SQL warehouses (38 digits, scale 9).
//!
//! Sums of a fixed scale do not depend on the order of arrival, which is why this is not a floating scale.
//! A value with more fraction digits is rounded half to even once, where it enters or is computed.

use std::fmt;

/// Fraction digits of every decimal.
pub const SCALE: u32 = 9;

/// One, in units of 10⁻⁹.
pub const ONE: i128 = 1_000_000_000;

/// Largest magnitude: 38 digits.
const MAX: i128 = 10_i128.pow(38) - 1;

/// A decimal number as a count of 10⁻⁹.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(pub i128);

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// Makes a whole number.
    #[must_use]
    pub fn from_int(value: i64) -> Self {
        Self(i128::from(value) * ONE)
    }

    /// Reads `-?digits(.digits)?([eE][+-]?digits)?`; `None` where the text is anything else or too large.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (negative, digits) = match text.first()? {
            b'-' => (true, &text[1..]),
            _ => (false, text),
        };
        let value = parse_plain(digits).or_else(|| parse_scientific(digits))?;
        Some(Self(if negative { -value } else { value }))
    }

    /// Adds; `None` past 38 digits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        checked(self.0.checked_add(other.0)?)
    }

    /// Multiplies, rounding half to even; `None` on overflow.
    #[must_use]
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        match self.0.checked_mul(other.0) {
            Some(product) => checked(round_div(product, ONE)),
            // The product passes 128 bits: split one factor into its whole and fraction parts.
            None => {
                let whole = (self.0 / ONE).checked_mul(other.0)?;
                let part = (self.0 % ONE).checked_mul(other.0)?;
                checked(whole.checked_add(round_div(part, ONE))?)
            }
        }
    }

    /// Divides, rounding half to even; `None` on a zero divisor or overflow.
    #[must_use]
    pub fn checked_div(self, other: Self) -> Option<Self> {
        if other.0 == 0 {
            return None;
        }
        match self.0.checked_mul(ONE) {
            Some(scaled) => checked(round_div(scaled, other.0)),
            None => {
                let whole = (self.0 / other.0).checked_mul(ONE)?;
                let part = (self.0 % other.0).checked_mul(ONE)?;
                checked(whole.checked_add(round_div(part, other.0))?)
            }
        }
    }

    /// The remainder with the sign of the dividend; `None` on a zero divisor.
    #[must_use]
    pub fn checked_rem(self, other: Self) -> Option<Self> {
        self.0.checked_rem(other.0).map(Self)
    }

    /// Returns the nearest `f64`. For approximations and display only.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        (self.0 / ONE) as f64 + (self.0 % ONE) as f64 / ONE as f64
    }

    /// Returns the decimal nearest to `value`, or `None` where it is not finite or too large.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        let scaled = (value * ONE as f64).round_ties_even();
        (scaled.is_finite() && scaled.abs() < 9.9e37).then_some(Self(scaled as i128))
    }

    /// Rounds to `digits` fraction digits, half to even.
    #[must_use]
    pub fn round(self, digits: u32) -> Self {
        if digits >= SCALE {
            return self;
        }
        let unit = 10_i128.pow(SCALE - digits);
        Self(round_div(self.0, unit) * unit)
    }

    /// Writes the shortest exact text: no trailing zeros, no exponent.
    pub fn write(self, out: &mut Vec<u8>) {
        let magnitude = self.0.unsigned_abs();
        if self.0 < 0 {
            out.push(b'-');
        }
        let mut whole = magnitude / ONE as u128;
        let mut fraction = (magnitude % ONE as u128) as u64;
        let mut digits = [0_u8; 40];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (whole % 10) as u8;
            whole /= 10;
            if whole == 0 {
                break;
            }
        }
        out.extend_from_slice(&digits[at..]);
        if fraction == 0 {
            return;
        }
        let mut text = [b'0'; SCALE as usize];
        for digit in text.iter_mut().rev() {
            *digit = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
        let kept = text.iter().rposition(|digit| *digit != b'0').expect("the fraction is not zero");
        out.push(b'.');
        out.extend_from_slice(&text[..=kept]);
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(24);
        self.write(&mut out);
        f.write_str(std::str::from_utf8(&out).expect("only ASCII was written"))
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn checked(value: i128) -> Option<Decimal> {
    (-MAX..=MAX).contains(&value).then_some(Decimal(value))
}

/// Divides rounding half to even. `divisor` is not zero.
fn round_div(value: i128, divisor: i128) -> i128 {
    let (quotient, remainder) = (value / divisor, value % divisor);
    let twice = remainder.unsigned_abs().saturating_mul(2);
    let away = match twice.cmp(&divisor.unsigned_abs()) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => quotient % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    match (away, (value < 0) == (divisor < 0)) {
        (false, _) => quotient,
        (true, true) => quotient + 1,
        (true, false) => quotient - 1,
    }
}

/// The common shape, `digits(.digits)?` with at most 18 digits in all and 9 behind the point.
fn parse_plain(text: &[u8]) -> Option<i128> {
    if text.is_empty() || text.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    let mut fraction_digits = None::<u32>;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
                fraction_digits = fraction_digits.map(|count| count + 1);
            }
            b'.' if fraction_digits.is_none() && at > 0 => fraction_digits = Some(0),
            _ => return None,
        }
    }
    match fraction_digits {
        Some(0) => None,
        Some(count) if count > SCALE => None,
        count => Some(i128::from(value) * 10_i128.pow(SCALE - count.unwrap_or(0))),
    }
}

/// Any other number: exponents, many digits. Rounds half to even at the ninth fraction digit.
fn parse_scientific(text: &[u8]) -> Option<i128> {
    let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = match exponent_at {
        None => (text, 0_i64),
        Some(at) => {
            let written = std::str::from_utf8(&text[at + 1..]).ok()?;
            (&text[..at], written.parse::<i64>().ok()?)
        }
    };
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, &mantissa[..0]),
    };
    let digits_ok = whole.iter().chain(fraction).all(u8::is_ascii_digit);
    if whole.is_empty() || !digits_ok || (point.is_some() && fraction.is_empty()) {
        return None;
    }
    // value = 0.d1d2d3… × 10^place, as units of 10⁻⁹ it has `kept` digits before its rounding.
    let digits = || whole.iter().chain(fraction).skip_while(|digit| **digit == b'0');
    let leading_zeros = (whole.len() + fraction.len() - digits().count()) as i64;
    let place = (whole.len() as i64 - leading_zeros).checked_add(exponent)?;
    let kept = place.checked_add(i64::from(SCALE))?;
    if digits().next().is_none() || kept < 0 {
        return Some(0);
    }
    if kept > 38 {
        return None;
    }
    let kept = kept as usize;
    let mut value = 0_i128;
    for at in 0..kept {
        let digit = digits().nth(at).copied().unwrap_or(b'0');
        value = value * 10 + i128::from(digit - b'0');
    }
    let mut rest = digits().skip(kept);
    let first = rest.next().copied().unwrap_or(b'0');
    let sticky = rest.any(|digit| *digit != b'0');
    let up = first > b'5' || (first == b'5' && (sticky || value % 2 != 0));
    Some(value + i128::from(up))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        Decimal::parse(text.as_bytes()).map(|value| value.to_string())
    }

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        let check = |text: &str, want: Option<&str>| assert_eq!(parsed(text).as_deref(), want, "{text}");
        check("0", Some("0"));
        check("-0.10", Some("-0.1"));
        check("19.99", Some("19.99"));
        check("1e3", Some("1000"));
        check("1.5E-3", Some("0.0015"));
        check("0.0000000005", Some("0"));
        check("0.0000000015", Some("0.000000002"));
        check("0.00000000051", Some("0.000000001"));
        check("123456789012345678901234567.5", Some("123456789012345678901234567.5"));
        check("1e400", None);
        check("1e-400", Some("0"));
        check("", None);
        check("-", None);
        check(".5", None);
        check("5.", None);
        check("1e", None);
        check("1e+-3", None);
        check("NaN", None);
        check("0e99999999999999999999", None);
    }

    #[test]
    fn arithmetic_rounds_half_to_even_and_never_wraps() {
        let number = |text: &str| Decimal::parse(text.as_bytes()).unwrap();
        assert_eq!(number("1").checked_div(number("3")).unwrap().to_string(), "0.333333333");
        assert_eq!(number("2").checked_div(number("3")).unwrap().to_string(), "0.666666667");
        assert_eq!(number("-2").checked_div(number("3")).unwrap().to_string(), "-0.666666667");
        assert_eq!(number("1").checked_div(Decimal::ZERO), None);
        assert_eq!(number("19.99").checked_mul(number("3")).unwrap().to_string(), "59.97");
        assert_eq!(number("0.00005").checked_mul(number("0.00005")).unwrap().to_string(), "0.000000002");
        let large = number("12345678901234567890.123456789");
        assert_eq!(large.checked_mul(number("2")).unwrap().to_string(), "24691357802469135780.246913578");
        assert_eq!(large.checked_div(number("2")).unwrap().to_string(), "6172839450617283945.061728394");
        assert_eq!(large.checked_mul(large), None);
        assert_eq!(number("2.345").round(2).to_string(), "2.34");
        assert_eq!(number("2.355").round(2).to_string(), "2.36");
    }
}
