//! Redis: a hash or a JSON text for each row, written by a script that compares versions. One server; a cluster's client is
//! not in here.
//!
//! A deleted row stays as `_deleted`, `_epoch` and `_version` for a day, so that an older version that comes again does not
//! bring it back. A row of the other format is read too: it is replaced with its next change.

use std::time::Duration;

use anyhow::Context;
use crds::spec::{self, RedisFormat};
use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};

use super::row::{Change, Key, Version};
use crate::{cli::Mistake, secrets::Secrets};

/// How long a call may take.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a deletion is remembered.
const DELETION: Duration = Duration::from_secs(24 * 3_600);

/// Commands in flight: about a megabyte of script and rows.
const PIPELINE_MAX: usize = 500;

/// `KEYS[1]`: the row; `ARGV`: epoch, version, milliseconds to live or 0, the format, then fields and values or the text,
/// which begins as [`json`] has it: numbers are read without the rest.
const WRITE: &str = "\
local kind = redis.call('TYPE', KEYS[1]).ok
local epoch, version
if kind == 'hash' then
  local known = redis.call('HMGET', KEYS[1], '_epoch', '_version')
  epoch, version = known[1], known[2]
elseif kind == 'string' then
  epoch, version = string.match(redis.call('GET', KEYS[1]), '^{\"_epoch\":(%d+),\"_version\":(%d+)')
end
epoch, version = tonumber(epoch or nil), tonumber(version or nil)
local new_epoch, new_version = tonumber(ARGV[1]), tonumber(ARGV[2])
if epoch and version and (epoch > new_epoch or (epoch == new_epoch and version >= new_version)) then return 0 end
redis.call('DEL', KEYS[1])
if ARGV[4] == 'json' then
  redis.call('SET', KEYS[1], ARGV[5])
else
  redis.call('HSET', KEYS[1], '_epoch', ARGV[1], '_version', ARGV[2], unpack(ARGV, 5))
end
if ARGV[3] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1";

/// Where to connect.
pub struct Connector {
    client: Client,
    prefix: String,
    format: RedisFormat,
    live_ms: u64,
}

/// A connection.
pub struct Redis {
    connection: MultiplexedConnection,
    prefix: String,
    format: RedisFormat,
    live_ms: u64,
}

impl Connector {
    /// Reads `url` from the secret: `redis://` or, over TLS, `rediss://`.
    ///
    /// # Errors
    /// A [`Mistake`] where it is missing or no address.
    pub fn new(spec: &spec::Redis, secrets: &Secrets) -> Result<Self, Mistake> {
        let secret = &spec.connection_secret;
        let url = secrets.value(secret, "url")?;
        // The parser's complaint may quote what it read: a password must not get into a log.
        let client = Client::open(url)
            .map_err(|_| Mistake(format!("secret {secret}: `url` is no address like redis://:password@host:6379/0")))?;
        let live_ms = spec.ttl.map_or(0, |ttl| ttl.millis.unsigned_abs());
        Ok(Self { client, prefix: spec.key_prefix.clone(), format: spec.format.unwrap_or_default(), live_ms })
    }

    /// Connects.
    ///
    /// # Errors
    /// What the server says.
    pub async fn connect(&self) -> anyhow::Result<Redis> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CALL_TIME_MAX))
            .set_response_timeout(Some(CALL_TIME_MAX));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connection.context("failed to connect to Redis")?;
        let _: String = redis::cmd("PING").query_async(&mut connection).await.context("Redis does not answer")?;
        Ok(Redis { connection, prefix: self.prefix.clone(), format: self.format, live_ms: self.live_ms })
    }
}

impl Redis {
    /// Writes rows that are newer than what is there.
    ///
    /// # Errors
    /// What the server says: any part may have been written.
    pub async fn write(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        for part in changes.chunks(PIPELINE_MAX) {
            let mut pipeline = redis::pipe();
            for change in part {
                pipeline.add_command(self.command(change)).ignore();
            }
            let written: Result<(), redis::RedisError> = pipeline.query_async(&mut self.connection).await;
            written.context("failed to write to Redis")?;
        }
        Ok(())
    }

    fn command(&self, change: &Change) -> redis::Cmd {
        match &change.key {
            Key::Row { id, version } => self.eval(id, *version, self.live_ms, &change.columns),
            Key::Gone { id, version } => {
                let live_ms = u64::try_from(DELETION.as_millis()).unwrap_or(u64::MAX);
                let deleted = if self.format == RedisFormat::Json { "true" } else { "1" };
                self.eval(id, *version, live_ms, &[("_deleted".into(), deleted.into())])
            }
            Key::Event { .. } => unreachable!("bug: events for Redis; the manifest's check refuses them"),
        }
    }

    fn eval(&self, id: &str, version: Version, live_ms: u64, columns: &[(String, String)]) -> redis::Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(WRITE).arg(1).arg(format!("{}{id}", self.prefix));
        command.arg(version.epoch).arg(version.offset).arg(live_ms);
        match self.format {
            RedisFormat::Json => {
                command.arg("json").arg(json(version, columns));
            }
            RedisFormat::Hash => {
                command.arg("hash");
                for (name, literal) in columns {
                    command.arg(name).arg(plain(literal));
                }
            }
        }
        command
    }
}

/// The row as a JSON object: first its version, which the script reads, then its columns.
fn json(Version { epoch, offset }: Version, columns: &[(String, String)]) -> String {
    let mut text = format!(r#"{{"_epoch":{epoch},"_version":{offset}"#);
    for (name, literal) in columns {
        text += &format!(",{}:{literal}", serde_json::Value::from(&**name));
    }
    text + "}"
}

/// A text without its quotes, null as nothing; everything else as JSON writes it.
fn plain(literal: &str) -> String {
    match literal {
        "null" => String::new(),
        _ => serde_json::from_str::<String>(literal).unwrap_or_else(|_| literal.to_owned()),
    }
}
