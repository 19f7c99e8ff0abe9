//! The keyed hash that stands for a personal value: the same value has the same hash, and without the key nobody can try
//! values out.

/// Returns 32 hexadecimal digits of the keyed BLAKE3 hash of `value`.
#[must_use]
pub fn keyed_hash(key: &[u8; 32], value: &[u8]) -> [u8; 32] {
    let hash = blake3::keyed_hash(key, value);
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(hash.as_bytes()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    digits
}
