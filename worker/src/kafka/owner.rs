//! Whose the topics are: the pipeline's manifest, as a number that checkpoints and shuffle messages belong to.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::{
    client::{Cluster, REQUEST_TIME_MAX, failed},
    compacted::read_all,
    names::Names,
};
use crate::{cli::Mistake, ports::LogError};

/// Key of the record; no ingester's name, which is the key of its progress, begins so.
const KEY: &str = "_owner";

/// Reads what the topics belong to; the first process writes it down.
///
/// # Errors
/// A [`Mistake`] where another version of the manifest filled the topics; else what Kafka says.
pub fn claim(cluster: &Cluster, names: &Names, fingerprint: u64) -> anyhow::Result<()> {
    let topic = names.progress();
    let own = format!("{fingerprint:016x}");
    let mut found: Option<String> = None;
    read_all(cluster, &topic, &[0], |_, key, value| {
        if key == KEY.as_bytes() {
            found = value.map(|value| String::from_utf8_lossy(value).into_owned());
        }
    })?;
    match found {
        Some(found) if found == own => Ok(()),
        Some(_) => Err(Mistake(format!(
            "the topics of {topic} were filled by another version of the manifest: its tables cannot go on under changed \
             definitions; give the pipeline another name, or bring the manifest back"
        ))
        .into()),
        None => Ok(write(cluster, &topic, &own)?),
    }
}

fn write(cluster: &Cluster, topic: &str, own: &str) -> Result<(), LogError> {
    let wrong = |error| failed("write", topic, error);
    let producer: BaseProducer = cluster.create(&cluster.producer())?;
    let record = BaseRecord::to(topic).partition(0).key(KEY).payload(own);
    producer.send(record).map_err(|(error, _)| wrong(error))?;
    producer.flush(REQUEST_TIME_MAX).map_err(wrong)
}
