//! A thread as a member of the group: which partitions it has, told as messages that it acknowledges.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    client::ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::RDKafkaRespErr,
};

use crate::{
    kafka::{
        client::{Cluster, REQUEST_TIME_MAX, failed},
        connection::Connection,
        context::{self, Logged},
        names::Names,
        unread::watermarks_within,
    },
    ports::LogError,
};

/// Longest that a member may be busy without taking part in the group's affairs. It is also the longest that the others
/// wait, where one does not come back to a rebalance or its request to join went to a machine that is gone.
const ABSENCE_MS_MAX: u32 = 120_000;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: u32,
}

/// What the group says. Nothing changes until the member answers by [`Member::assign`] or [`Member::unassign`].
#[derive(Debug)]
pub enum Change {
    /// These are ours from now on.
    Given(Vec<Place>),
    /// These will be somebody else's: what was read of them may be committed before they are given up.
    Taken(Vec<Place>),
    /// These are somebody else's already: nothing may be committed.
    Lost(Vec<Place>),
}

/// Keeps what the group says until the thread asks for it.
#[derive(Default)]
pub struct Rebalances {
    /// Written by the callback, which the thread's own poll calls; read right after.
    told: Mutex<Vec<Change>>,
    /// The member leaves: everything is given up at once.
    leaving: AtomicBool,
}

impl ClientContext for Rebalances {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        context::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        context::error(&error, reason);
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.leaving.load(Ordering::Acquire) {
            let _gone_anyway = consumer.incremental_unassign(list);
            return;
        }
        let places =
            list.elements().into_iter().map(|it| Place { topic: it.topic().into(), partition: it.partition() as u32 });
        let places: Vec<Place> = places.collect();
        let change = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Change::Given(places),
            _ if consumer.assignment_lost() => Change::Lost(places),
            _ => Change::Taken(places),
        };
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }
}

/// A member of the group of processors.
pub struct Member {
    consumer: Arc<Connection<BaseConsumer<Rebalances>>>,
    /// Asks where partitions end, what is not committed yet included; it is no member.
    ends: Connection<BaseConsumer<Logged>>,
    group: String,
    /// Who we were when the group gave us what we have. Whoever was away for too long comes back as somebody else, and
    /// librdkafka joins again before it says what was lost: then a proof would be good, and prove nothing.
    given_to: RefCell<String>,
}

impl Member {
    /// Joins under the client id `id`, which is also that of the member's transactions.
    ///
    /// # Errors
    /// Where the configuration is refused.
    pub fn join(cluster: &Cluster, names: &Names, id: &str, topics: &[String]) -> Result<Self, LogError> {
        let group = names.process_group();
        let mut config = cluster.batch_consumer(&group);
        config.set("client.id", id);
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("max.poll.interval.ms", ABSENCE_MS_MAX.to_string());
        // Retention that overtook us is counted, not passed over.
        config.set("auto.offset.reset", "error");
        let wrong = |error| failed("join the group at", &cluster.bootstrap, error);
        let consumer: Connection<BaseConsumer<Rebalances>> =
            cluster.open(&config, Rebalances::default()).map_err(wrong)?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(wrong)?;
        let mut config = cluster.consumer(&group);
        config.set("isolation.level", "read_uncommitted");
        let ends = cluster.open(&config, Logged).map_err(wrong)?;
        Ok(Self { consumer: Arc::new(consumer), ends, group, given_to: RefCell::default() })
    }

    /// The consumer, for reading its partitions.
    #[must_use]
    pub fn consumer(&self) -> &Arc<Connection<BaseConsumer<Rebalances>>> {
        &self.consumer
    }

    /// Takes part in the group's affairs, and returns what it says.
    pub fn poll(&self) -> Vec<Change> {
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            tracing::debug!(%error, "the consumer says");
        }
        let told = std::mem::take(&mut *self.consumer.context().told.lock().unwrap_or_else(PoisonError::into_inner));
        if told.iter().any(|change| matches!(change, Change::Given(_))) {
            self.given_to.replace(self.consumer.member_id());
        }
        told
    }

    /// Whether the group still knows us as the one to whom it gave what we have. If not, it is about to say so.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let id = self.consumer.member_id();
        !id.is_empty() && id == *self.given_to.borrow()
    }

    /// Whether the group has let us in.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        !matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::None)
    }

    /// Begins to read partitions, each from an offset.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn assign(&self, places: &[(Place, u64)]) -> Result<(), LogError> {
        let list = list(places.iter().map(|(place, from)| (place, Offset::Offset(*from as i64))));
        list.and_then(|list| self.consumer.incremental_assign(&list)).map_err(|error| self.failed("assign", error))
    }

    /// Stops reading partitions.
    ///
    /// # Errors
    /// Where librdkafka refuses.
    pub fn unassign(&self, places: &[Place]) -> Result<(), LogError> {
        let list = list(places.iter().map(|place| (place, Offset::Invalid)));
        list.and_then(|list| self.consumer.incremental_unassign(&list)).map_err(|error| self.failed("give up", error))
    }

    /// What proves to the group's coordinator that a commit is ours.
    ///
    /// # Errors
    /// [`LogError::Fenced`] where it would be somebody else's: coordinators take whatever a member of today's generation
    /// commits, and within a transaction also what is committed without a member.
    ///
    /// # Panics
    /// Never: there is a group.
    pub fn proof(&self) -> Result<ConsumerGroupMetadata, LogError> {
        let proof = self.consumer.group_metadata().expect("the consumer has a group");
        // Asked afterwards: ids do not come back, so that the proof is that of the same member.
        if self.is_current() { Ok(proof) } else { Err(LogError::Fenced) }
    }

    /// The committed offset of each place, once no transaction can change it any more.
    ///
    /// # Errors
    /// Where the coordinator does not answer in time, or does not say it of one of them: that is not as if there were none.
    pub fn committed(&self, places: &[Place]) -> Result<Vec<Option<u64>>, LogError> {
        let wrong = |error| self.failed("fetch offsets of", error);
        let asked = list(places.iter().map(|place| (place, Offset::Invalid))).map_err(wrong)?;
        let told = self.consumer.committed_offsets(asked, REQUEST_TIME_MAX * 3).map_err(wrong)?;
        let offset = |place: &Place| {
            let element = told.find_partition(&place.topic, place.partition as i32);
            let Some(element) = element else { return Ok(None) };
            element.error().map_err(wrong)?;
            match element.offset() {
                Offset::Offset(offset) => Ok(Some(offset as u64)),
                _ => Ok(None),
            }
        };
        places.iter().map(offset).collect()
    }

    /// First offset and end of a partition, as readers of what is committed see them.
    ///
    /// # Errors
    /// Where the partition's leader does not answer within `limit`.
    pub fn offsets(&self, place: &Place, limit: Duration) -> Result<std::ops::Range<u64>, LogError> {
        let marks = watermarks_within(&self.consumer, &place.topic, place.partition as i32, limit);
        let (low, high) = marks.map_err(|error| self.failed("ask for the ends of a partition of", error))?;
        Ok(low.max(0) as u64..high.max(0) as u64)
    }

    /// Whether a partition was read to its very end, markers of transactions too. `next` is the offset behind the last
    /// record. A leader that does not answer within `limit` says no. Records of a transaction that is still open lie before
    /// the end: their events are as old as they are, and would come late if the partition were called idle meanwhile.
    #[must_use]
    pub fn is_at_end(&self, place: &Place, next: u64, limit: Duration) -> bool {
        let position = self.consumer.position().ok().and_then(|all| {
            let element = all.find_partition(&place.topic, place.partition as i32)?;
            match element.offset() {
                Offset::Offset(offset) => Some(offset as u64),
                _ => None,
            }
        });
        let position = position.map_or(next, |position| position.max(next));
        let ends = self.ends.fetch_watermarks(&place.topic, place.partition as i32, limit);
        ends.is_ok_and(|(_, end)| end.max(0) as u64 <= position)
    }

    /// Client ids of the members that the group has now.
    ///
    /// # Errors
    /// Where the coordinator does not answer.
    pub fn members(&self) -> Result<Vec<String>, LogError> {
        let told = self.consumer.fetch_group_list(Some(&self.group), REQUEST_TIME_MAX);
        let told = told.map_err(|error| self.failed("ask for the members of", error))?;
        let members = told.groups().iter().flat_map(|group| group.members());
        Ok(members.map(|member| member.client_id().to_owned()).collect())
    }

    fn failed(&self, action: &'static str, error: KafkaError) -> LogError {
        failed(action, &self.group, error)
    }
}

/// Leaves the group: nobody is there to answer it any more. The caller has committed what it wanted to.
impl Drop for Member {
    fn drop(&mut self) {
        self.consumer.context().leaving.store(true, Ordering::Release);
    }
}

fn list<'a>(places: impl Iterator<Item = (&'a Place, Offset)>) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (place, offset) in places {
        list.add_partition_offset(&place.topic, place.partition as i32, offset)?;
    }
    Ok(list)
}
