//! From `spec.kafka` to the configuration of clients. Secrets come from [`Secrets`] only.

use std::{sync::Arc, time::Duration};

use crds::spec::{Kafka, PipelineSpec, Sasl, SaslMechanism, Tls};
use rdkafka::{
    ClientConfig,
    client::ClientContext,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::KafkaError,
};

use super::{
    connection::{Connection, Native},
    context::Logged,
    tokens::{Tokens, Trouble},
};
use crate::{cli::Mistake, ports::LogError, secrets::Secrets};

/// How long a metadata request, a fetch of offsets or an admin call may take.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// A member that says nothing for this long is dead. The promise is 30 s from a kill to the next row.
pub const SESSION_MS: u32 = 6_000;

/// Largest message: a shuffle message of one commit and partition. Internal topics allow it too.
pub const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A Kafka cluster as the manifest describes it.
#[derive(Clone)]
pub struct Cluster {
    /// Brokers to start from, for messages to people.
    pub bootstrap: String,
    base: ClientConfig,
    tokens: Option<Arc<Tokens>>,
}

impl Cluster {
    /// Reads `spec.kafka` and its secrets.
    ///
    /// # Errors
    /// A [`Mistake`] where there is no `spec.kafka`, or a secret is missing.
    pub fn of(spec: &PipelineSpec, secrets: &Secrets) -> Result<Self, Mistake> {
        let missing = || Mistake("spec.kafka: a fleet needs it; give bootstrapServers: [\"host:9092\"]".into());
        Self::at(spec.kafka.as_ref().ok_or_else(missing)?, secrets)
    }

    /// Reads the way to a cluster and its secrets.
    ///
    /// # Errors
    /// A [`Mistake`] where a secret is missing.
    pub fn at(kafka: &Kafka, secrets: &Secrets) -> Result<Self, Mistake> {
        let bootstrap = kafka.bootstrap_servers.join(",");
        let mut base = ClientConfig::new();
        base.set("bootstrap.servers", &bootstrap);
        base.set("client.id", "clickstream");
        // A broker that comes back is used again soon: half of the session.
        base.set("reconnect.backoff.max.ms", "3000");
        // A machine that is gone says nothing at all: whoever connects to it turns to another sooner than after 30 s.
        base.set("socket.connection.setup.timeout.ms", "10000");
        // Nor does it close connections that it has: a request is given up, and with it the connection, after this and not after
        // a minute. Requests that may take longer at a broker, as to join a group, have limits of their own.
        base.set("socket.timeout.ms", REQUEST_TIME_MAX.as_millis().to_string());
        base.set("topic.metadata.refresh.interval.ms", "30000");
        base.set("allow.auto.create.topics", "false");
        base.set_log_level(RDKafkaLogLevel::Warning);
        secure(&mut base, kafka, secrets)?;
        Ok(Self { bootstrap, base, tokens: Tokens::keep(kafka, secrets)? })
    }

    /// What every client starts from.
    #[must_use]
    pub fn base(&self) -> ClientConfig {
        self.base.clone()
    }

    /// A consumer that reads what is committed and stores no offsets by itself. Whoever reads without a group gives it a
    /// name all the same, because librdkafka wants one.
    #[must_use]
    pub fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.base();
        config.set("group.id", group);
        config.set("isolation.level", "read_committed");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "earliest");
        config.set("session.timeout.ms", SESSION_MS.to_string());
        config.set("heartbeat.interval.ms", (SESSION_MS / 4).to_string());
        config.set("fetch.wait.max.ms", "100");
        config.set("fetch.error.backoff.ms", "100");
        config
    }

    /// A consumer whose partitions are read as batches, by [`super::batches::PartitionQueue`].
    #[must_use]
    pub fn batch_consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        // Batches and end-of-partition events do not go together: see `batches`.
        config.set("enable.partition.eof", "false");
        // Read ahead, for each partition: half a second of work.
        config.set("queued.max.messages.kbytes", "8192");
        config.set("queued.min.messages", "100000");
        config.set("max.partition.fetch.bytes", "4194304");
        // A full queue is read empty long before the second after which it would be filled again.
        config.set("fetch.queue.backoff.ms", "5");
        config
    }

    /// A producer that writes each record once, in order, to all replicas in sync.
    #[must_use]
    pub fn producer(&self) -> ClientConfig {
        let mut config = self.base();
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config.set("linger.ms", "5");
        config.set("compression.type", "lz4");
        config.set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
        config.set("delivery.report.only.error", "true");
        config
    }

    /// A producer of transactions. Two with one id fence each other: the later wins.
    #[must_use]
    pub fn transactional(&self, id: &str) -> ClientConfig {
        let mut config = self.producer();
        config.set("transactional.id", id);
        config.set("client.id", id);
        // The broker's own remedy for a transaction that nobody ends; others end it sooner by its id.
        config.set("transaction.timeout.ms", "15000");
        config.set("message.timeout.ms", "15000");
        // librdkafka takes a broker off its list that is gone, and an offset commit that waits for it as the group's
        // coordinator then waits until any other connection comes or goes, whatever its time limit says. An idle one goes.
        config.set("connections.max.idle.ms", SESSION_MS.to_string());
        config
    }

    /// Makes a client. The one way to: it has tokens, where brokers want them.
    ///
    /// # Errors
    /// Where librdkafka refuses the configuration: nothing is connected yet.
    pub fn open<T, C>(&self, config: &ClientConfig, context: C) -> Result<Connection<T>, KafkaError>
    where
        C: ClientContext,
        T: Native + FromClientConfigAndContext<C>,
    {
        Ok(Connection::of(T::from_config_and_context(config, context)?, self.tokens.as_ref()))
    }

    /// As [`Cluster::open`], for a client that wants nothing but to be heard.
    ///
    /// # Errors
    /// As [`Cluster::open`].
    pub fn create<T: Native + FromClientConfigAndContext<Logged>>(
        &self,
        config: &ClientConfig,
    ) -> Result<Connection<T>, LogError> {
        self.open(config, Logged).map_err(|error| failed("connect to", &self.bootstrap, error))
    }

    /// Why there is no token for the brokers, if they want one and there is none.
    #[must_use]
    pub fn token_trouble(&self) -> Option<Trouble> {
        self.tokens.as_ref()?.trouble()
    }
}

/// The error of a call to Kafka.
pub fn failed(action: &'static str, place: &str, source: KafkaError) -> LogError {
    LogError::Io { action, place: place.to_owned(), source: Box::new(source) }
}

fn secure(config: &mut ClientConfig, kafka: &Kafka, secrets: &Secrets) -> Result<(), Mistake> {
    let protocol = match (&kafka.tls, &kafka.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    kafka.tls.iter().try_for_each(|tls| encrypt(config, tls, secrets))?;
    kafka.sasl.iter().try_for_each(|sasl| authenticate(config, sasl, secrets))
}

fn encrypt(config: &mut ClientConfig, tls: &Tls, secrets: &Secrets) -> Result<(), Mistake> {
    match &tls.ca_secret {
        Some(secret) => config.set("ssl.ca.pem", secrets.value(secret, "ca.crt")?),
        // OpenSSL is built in and knows no system; librdkafka looks where systems keep their authorities.
        None => config.set("ssl.ca.location", "probe"),
    };
    if let Some(secret) = &tls.certificate_secret {
        config.set("ssl.certificate.pem", secrets.value(secret, "tls.crt")?);
        config.set("ssl.key.pem", secrets.value(secret, "tls.key")?);
    }
    Ok(())
}

fn authenticate(config: &mut ClientConfig, sasl: &Sasl, secrets: &Secrets) -> Result<(), Mistake> {
    config.set("sasl.mechanism", mechanism(sasl.mechanism));
    if sasl.mechanism == SaslMechanism::OauthBearer {
        // Tokens are given: see `connection`.
        return Ok(());
    }
    config.set("sasl.username", secrets.value(&sasl.credentials_secret, "username")?);
    config.set("sasl.password", secrets.value(&sasl.credentials_secret, "password")?);
    Ok(())
}

fn mechanism(mechanism: SaslMechanism) -> &'static str {
    match mechanism {
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::OauthBearer => "OAUTHBEARER",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rdkafka::{consumer::BaseConsumer, producer::BaseProducer};

    use super::*;

    fn spec(sasl: bool, tls: bool) -> PipelineSpec {
        let sasl = sasl.then(|| Sasl {
            mechanism: SaslMechanism::ScramSha512,
            credentials_secret: "user".into(),
            oauth: None,
        });
        let tls = tls.then(|| Tls { ca_secret: Some("ca".into()), certificate_secret: None });
        let kafka = Kafka { bootstrap_servers: vec!["a:1".into(), "b:2".into()], tls, sasl };
        PipelineSpec { kafka: Some(kafka), ..PipelineSpec::default() }
    }

    #[test]
    fn every_way_to_connect_is_one_that_librdkafka_knows() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_directory(directory.path());
        let check = |sasl, tls, protocol: &str| {
            let cluster = Cluster::of(&spec(sasl, tls), &secrets).unwrap();
            assert_eq!(cluster.base().get("bootstrap.servers"), Some("a:1,b:2"));
            assert_eq!(cluster.base().get("security.protocol"), Some(protocol));
            cluster
        };
        assert!(Cluster::of(&PipelineSpec::default(), &secrets).is_err());
        let told = Cluster::of(&spec(true, false), &secrets).err().unwrap().to_string();
        assert!(told.contains("secret user has no `username`"), "{told}");
        fs::create_dir_all(directory.path().join("user")).unwrap();
        fs::create_dir_all(directory.path().join("ca")).unwrap();
        fs::write(directory.path().join("user/username"), "me").unwrap();
        fs::write(directory.path().join("user/password"), "secret").unwrap();
        fs::write(directory.path().join("ca/ca.crt"), "PEM").unwrap();
        check(true, true, "sasl_ssl");
        check(false, true, "ssl");
        for cluster in [check(true, false, "sasl_plaintext"), check(false, false, "plaintext")] {
            cluster.create::<BaseConsumer<Logged>>(&cluster.consumer("g")).unwrap();
            cluster.create::<BaseProducer<Logged>>(&cluster.transactional("t")).unwrap();
        }
    }
}
