//! The server's side of SCRAM-SHA512 (RFC 5802), as far as the official crate takes it, and of PLAIN, which it uses over TLS.

use std::num::NonZeroU32;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};

use super::{PASSWORD, USER};

/// The better of the mechanisms.
pub(super) const MECHANISM: &str = "SCRAM-SHA512";

/// Enough for a double; the server has 15,000, which costs every connection of a test.
const ITERATIONS: u32 = 16;

const SALT: &[u8] = b"salt of the double";

/// A conversation that has begun.
pub(super) struct Exchange {
    is_known: bool,
    client_first: String,
    server_first: String,
}

impl Exchange {
    /// Takes the client's first message; gives the server's.
    pub(super) fn begin(message: &[u8]) -> Option<(Self, String)> {
        let client_first = std::str::from_utf8(message).ok()?.strip_prefix("n,,")?.to_owned();
        let (user, nonce) = client_first.split_once(",r=")?;
        let server_first = format!("r={nonce}double,s={},i={ITERATIONS}", STANDARD.encode(SALT));
        let is_known = user.strip_prefix("n=") == Some(USER);
        Some((Self { is_known, client_first, server_first: server_first.clone() }, server_first))
    }

    /// Takes the client's proof; gives the server's, or nothing to who does not know the password.
    pub(super) fn end(&self, message: &[u8]) -> Option<String> {
        let (without_proof, proof) = std::str::from_utf8(message).ok()?.rsplit_once(",p=")?;
        let proof = STANDARD.decode(proof).ok()?;
        let mut salted = [0; digest::SHA512_OUTPUT_LEN];
        let iterations = NonZeroU32::new(ITERATIONS)?;
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, SALT, PASSWORD.as_bytes(), &mut salted);
        let said = format!("{},{},{without_proof}", self.client_first, self.server_first);
        let client_key = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA512, client_key.as_ref());
        let signature = sign(stored.as_ref(), said.as_bytes());
        let expected: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, byte)| key ^ byte).collect();
        let server_key = sign(&salted, b"Server Key");
        let answer = format!("v={}", STANDARD.encode(sign(server_key.as_ref(), said.as_bytes())));
        (self.is_known && proof == expected).then_some(answer)
    }
}

/// Whether this is the name and the password, as PLAIN has them.
pub(super) fn is_plain_welcome(message: &[u8]) -> bool {
    message == format!("\0{USER}\0{PASSWORD}").as_bytes()
}

fn sign(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), message)
}
