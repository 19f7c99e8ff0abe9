//! Bytes of shuffle messages and checkpoints: LEB128 varints, length-prefixed bytes, zigzag for signed numbers.
//!
//! Reading never panics and never allocates more than the input could hold: what is torn or corrupt is a
//! [`Corrupt`].

use crate::{
    decimal::Decimal,
    time::{Millis, TIME_MAX},
    value::Value,
};

/// Bytes that do not say what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("corrupt bytes: {0}")]
pub struct Corrupt(pub &'static str);

/// Appends an unsigned varint.
#[inline]
pub fn put_u64(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed varint (zigzag).
#[inline]
pub fn put_i64(value: i64, out: &mut Vec<u8>) {
    put_u64(((value << 1) ^ (value >> 63)) as u64, out);
}

/// Appends a signed 128-bit varint (zigzag).
#[inline]
pub fn put_i128(value: i128, out: &mut Vec<u8>) {
    let mut zigzag = ((value << 1) ^ (value >> 127)) as u128;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends the length and the bytes.
#[inline]
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_u64(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a tagged value. Equal values have equal bytes, so this also serves as a group key.
pub fn put_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.push(0),
        Value::Boolean(value) => out.push(1 + u8::from(*value)),
        Value::Integer(value) => {
            out.push(3);
            put_i64(*value, out);
        }
        Value::Decimal(value) => {
            out.push(4);
            put_i128(value.0, out);
        }
        Value::Timestamp(value) => {
            out.push(5);
            put_i64(*value, out);
        }
        Value::String(text) => {
            out.push(6);
            put_bytes(text.as_bytes(), out);
        }
        Value::List(items) => {
            out.push(7);
            put_u64(items.len() as u64, out);
            items.iter().for_each(|item| put_value(item, out));
        }
    }
}

/// Reads what the `put_` functions wrote.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// At the end.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Corrupt> {
        let (first, rest) = self.rest.split_first().ok_or(Corrupt("ends too early"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// Reads an unsigned varint.
    ///
    /// # Errors
    /// At the end, or where it passes 64 bits.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Corrupt> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Corrupt("varint too long"))
    }

    /// Reads a signed varint.
    ///
    /// # Errors
    /// As [`Reader::u64`].
    #[inline]
    pub fn i64(&mut self) -> Result<i64, Corrupt> {
        let zigzag = self.u64()?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// Reads a time or a span of time: a signed varint within the years that events may have, so that sums of a few
    /// of them cannot overflow.
    ///
    /// # Errors
    /// As [`Reader::u64`], or out of that range.
    #[inline]
    pub fn time(&mut self) -> Result<Millis, Corrupt> {
        let time = self.i64()?;
        if time.abs_diff(0) <= TIME_MAX as u64 { Ok(time) } else { Err(Corrupt("time out of range")) }
    }

    /// Reads a signed 128-bit varint.
    ///
    /// # Errors
    /// At the end, or where it passes 128 bits.
    #[inline]
    pub fn i128(&mut self) -> Result<i128, Corrupt> {
        let mut zigzag = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.u8()?;
            let bits = u128::from(byte & 0x7f);
            if shift == 126 && bits > 3 {
                break;
            }
            zigzag |= bits << shift;
            if byte < 0x80 {
                return Ok((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128));
            }
        }
        Err(Corrupt("varint too long"))
    }

    /// Reads a varint that counts things of at least one byte each, so that it can be trusted for allocation.
    ///
    /// # Errors
    /// Where more is counted than bytes are left.
    pub fn count(&mut self) -> Result<usize, Corrupt> {
        let count = self.u64()?;
        if count > self.rest.len() as u64 {
            return Err(Corrupt("counts more than there is"));
        }
        Ok(count as usize)
    }

    /// Reads length-prefixed bytes.
    ///
    /// # Errors
    /// Where they end too early.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Corrupt> {
        let len = self.count()?;
        self.take(len)
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// Where they end too early.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Corrupt> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Corrupt("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads length-prefixed UTF-8.
    ///
    /// # Errors
    /// Where they end too early or are not UTF-8.
    pub fn str(&mut self) -> Result<&'a str, Corrupt> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Corrupt("not UTF-8"))
    }

    /// Reads a tagged value. Lists nest at most once (`top` makes pairs); deeper is corrupt.
    ///
    /// # Errors
    /// Where the bytes are not a value.
    pub fn value(&mut self) -> Result<Value, Corrupt> {
        self.nested(2)
    }

    fn nested(&mut self, lists_left: u32) -> Result<Value, Corrupt> {
        Ok(match self.u8()? {
            7 if lists_left > 0 => {
                let count = self.count()?;
                Value::List((0..count).map(|_| self.nested(lists_left - 1)).collect::<Result<_, _>>()?)
            }
            0 => Value::Null,
            1 => Value::Boolean(false),
            2 => Value::Boolean(true),
            3 => Value::Integer(self.i64()?),
            4 => Value::Decimal(Decimal(self.i128()?)),
            5 => Value::Timestamp(self.i64()?),
            6 => Value::String(self.str()?.into()),
            _ => return Err(Corrupt("unknown value tag")),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read(unsigned: u64, signed: i64, wide: i128, bytes: Vec<u8>) {
            let mut out = Vec::new();
            put_u64(unsigned, &mut out);
            put_i64(signed, &mut out);
            put_i128(wide, &mut out);
            put_bytes(&bytes, &mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.u64(), Ok(unsigned));
            prop_assert_eq!(reader.i64(), Ok(signed));
            prop_assert_eq!(reader.i128(), Ok(wide));
            prop_assert_eq!(reader.bytes(), Ok(&bytes[..]));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while reader.value().is_ok() {}
            let mut reader = Reader::new(&bytes);
            while reader.i128().is_ok() {}
        }
    }
}
