//! An identity provider for a test: a token endpoint over TLS that gives signed tokens (ES256) for a client's credentials,
//! and the key set by which a broker checks them. It can be told to be away.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, anyhow};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD, prelude::BASE64_STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::couchbase::loopback_tls;

/// The client, and its secret as a form has it: with characters that must be encoded.
pub const CLIENT: (&str, &str) = ("clickstream", "s3cret:with;signs=1");

/// One whose tokens are for other brokers.
pub const STRANGER: &str = "stranger";

/// Whom tokens are for.
pub const AUDIENCE: &str = "kafka-of-the-tests";

/// Longest that a connection may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// The provider.
pub struct Provider {
    /// Its token endpoint.
    pub url: String,
    desk: Arc<Desk>,
}

struct Desk {
    key: EcdsaKeyPair,
    lifetime: Duration,
    given: AtomicU64,
    away: AtomicBool,
}

impl Provider {
    /// Starts it; tokens live for so long. Writes the key set to `keys`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn start(lifetime: Duration, keys: &Path) -> Result<Self> {
        let (random, refused) = (SystemRandom::new(), |_| anyhow!("no key"));
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(refused)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random);
        let key = key.map_err(|error| anyhow!("no key: {error}"))?;
        // 4, then both coordinates.
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half));
        let set = json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "one", "x": x, "y": y}]});
        fs::write(keys, set.to_string())?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("https://localhost:{}/token", listener.local_addr()?.port());
        let desk = Arc::new(Desk { key, lifetime, given: AtomicU64::new(0), away: AtomicBool::new(false) });
        let (tls, served) = (loopback_tls()?, Arc::clone(&desk));
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, desk) = (Arc::clone(&tls), Arc::clone(&served));
                thread::spawn(move || drop(serve(stream, tls, &desk)));
            }
        });
        Ok(Self { url, desk })
    }

    /// Tokens that were given.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.desk.given.load(Ordering::Acquire)
    }

    /// From now on it only says that it is busy; or no longer.
    pub fn be_away(&self, away: bool) {
        self.desk.away.store(away, Ordering::Release);
    }
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, desk: &Desk) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(tls).map_err(io::Error::other)?, stream));
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            Some((name, value)) if name == "authorization" => authorization = value.to_owned(),
            Some((name, value)) if name == "content-length" => length = value.parse().unwrap_or(0),
            _ if line.is_empty() => break,
            _ => {}
        }
    }
    let mut form = vec![0; length];
    stream.read_exact(&mut form)?;
    let (status, body) = desk.answer(&authorization, &String::from_utf8_lossy(&form));
    let head = format!("HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nConnection: close\r\n");
    let stream = stream.get_mut();
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
    stream.flush()
}

impl Desk {
    fn answer(&self, authorization: &str, form: &str) -> (u16, String) {
        if self.away.load(Ordering::Acquire) {
            return (503, String::new());
        }
        let known = |id: &str| {
            let (_, secret) = CLIENT;
            let secret = secret.replace(':', "%3A").replace(';', "%3B").replace('=', "%3D");
            authorization == format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
        };
        let client = [(CLIENT.0, AUDIENCE), (STRANGER, "others")].into_iter().find(|(id, _)| known(id));
        let wants =
            ["grant_type=client_credentials", "scope=kafka"].iter().all(|part| form.split('&').any(|it| it == *part));
        match client {
            None => (401, json!({"error": "invalid_client", "error_description": "unknown client"}).to_string()),
            Some(_) if !wants => (400, json!({"error": "invalid_request", "error_description": form}).to_string()),
            Some((id, audience)) => {
                self.given.fetch_add(1, Ordering::AcqRel);
                let lifetime = self.lifetime.as_secs();
                let token = self.token(id, audience).unwrap_or_default();
                (200, json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime}).to_string())
            }
        }
    }

    fn token(&self, client: &str, audience: &str) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let claims = json!({"iss": "tests", "sub": client, "aud": audience, "scope": "kafka", "iat": now,
            "exp": now + self.lifetime.as_secs()});
        let parts = [json!({"alg": "ES256", "kid": "one"}), claims];
        let signed = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
