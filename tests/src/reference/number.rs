//! Decimal arithmetic of the reference: counts of 10⁻⁹ in 128 bits, rounding half to even.
//!
//! It judges numbers up to about 10¹⁰, which is where products still fit; the engine's own tests look beyond.

/// One, in units of 10⁻⁹.
pub const ONE: i128 = 1_000_000_000;

/// Divides two whole numbers, rounding half to even.
///
/// # Panics
/// On a zero divisor.
#[must_use]
pub fn divide_half_even(value: i128, divisor: i128) -> i128 {
    let (value, divisor) = if divisor < 0 { (-value, -divisor) } else { (value, divisor) };
    let below = value.div_euclid(divisor);
    let rest = value.rem_euclid(divisor);
    let round_up = 2 * rest > divisor || (2 * rest == divisor && below % 2 != 0);
    below + i128::from(round_up)
}

/// `a · b`.
#[must_use]
pub fn multiply(a: i128, b: i128) -> Option<i128> {
    Some(divide_half_even(a.checked_mul(b)?, ONE))
}

/// `a / b`, or nothing over zero.
#[must_use]
pub fn divide(a: i128, b: i128) -> Option<i128> {
    if b == 0 { None } else { Some(divide_half_even(a.checked_mul(ONE)?, b)) }
}

/// Reads a JSON number, or the same inside a string; `None` where it is not one or is too large.
#[must_use]
pub fn parse(text: &str) -> Option<i128> {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) = lower.split_once('e').map_or((lower.as_str(), "0"), |(left, right)| (left, right));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (mantissa, ""),
    };
    if whole.is_empty() || !whole.chars().chain(fraction.chars()).all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    // The number is digits × 10^(exponent − fraction digits); in units of 10⁻⁹ nine more.
    let power = exponent.saturating_sub(fraction.len() as i64).saturating_add(9);
    if power >= 0 {
        if digits.len() as i64 + power > 38 {
            return None;
        }
        let zeros = "0".repeat(power as usize);
        return Some(sign * format!("{digits}{zeros}").parse::<i128>().ok()?);
    }
    Some(sign * cut(digits, power.unsigned_abs())?)
}

/// Drops the last `dropped` digits, rounding half to even.
fn cut(digits: &str, dropped: u64) -> Option<i128> {
    let dropped = usize::try_from(dropped).unwrap_or(usize::MAX);
    let padded = if dropped < digits.len() { digits.to_owned() } else { format!("0{digits}") };
    if dropped >= padded.len() {
        return Some(0);
    }
    let (kept, gone) = padded.split_at(padded.len() - dropped);
    if kept.len() > 38 {
        return None;
    }
    let kept: i128 = kept.parse().ok()?;
    let half = format!("5{}", "0".repeat(gone.len() - 1));
    let round_up = *gone > *half || (*gone == *half && kept % 2 != 0);
    Some(kept + i128::from(round_up))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly_and_rounded_half_to_even() {
        let check = |text: &str, expected: Option<i128>| assert_eq!(parse(text), expected, "{text}");
        check("0", Some(0));
        check("-12.5", Some(-12_500_000_000));
        check("1e3", Some(1_000 * ONE));
        check("1.5E-3", Some(1_500_000));
        check("0.0000000005", Some(0));
        check("0.0000000015", Some(2));
        check("0.00000000050000001", Some(1));
        check("-0.0000000015", Some(-2));
        check("1e-400", Some(0));
        check("1e400", None);
        check("99999999999999999999999999999", Some(99_999_999_999_999_999_999_999_999_999 * ONE));
        check("999999999999999999999999999999", None);
        check("", None);
        check("1.", None);
        check(".5", None);
        check("1e", None);
        check("NaN", None);
        check("0x10", None);
        check("5.000000000e-10", Some(0));
        check("15e-10", Some(2));
    }

    #[test]
    fn division_rounds_half_to_even() {
        let check = |a, b, expected| assert_eq!(divide_half_even(a, b), expected, "{a} / {b}");
        check(5, 2, 2);
        check(7, 2, 4);
        check(-5, 2, -2);
        check(-7, 2, -4);
        check(7, -2, -4);
        check(1, 3, 0);
        check(2, 3, 1);
        check(-2, 3, -1);
    }
}
