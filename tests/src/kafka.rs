//! A real Kafka for a test, of one broker or three, from the script beside the tests; it ends with the value that stands
//! for it.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpStream,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use crds::Checked;
use engine::output::Source;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use worker::{
    kafka::{
        admin::Admin,
        client::Cluster,
        context::Logged,
        feed::{Feed, FeedRecord},
        steps::{Change, Step, TopicFact},
        topics::{Care, TopicWish},
    },
    secrets::Secrets,
};

use crate::{
    binary::{Running, free_port, root},
    reference::{Input, Record},
    roles::SIGKILL,
};

/// How long a broker may take to start; the first time its jars are fetched.
const START_TIME_MAX: Duration = Duration::from_secs(600);

/// How long reading a partition to its end may take.
const READ_TIME_MAX: Duration = Duration::from_secs(120);

/// How long the copies of a cluster may take to be whole again.
const COPIES_TIME_MAX: Duration = Duration::from_secs(120);

/// A broker, alone or one of several.
pub struct Broker {
    /// Where clients find it.
    pub address: String,
    /// The broker itself, to stop it for a while.
    pub process: Running,
    data: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Broker {
    /// Starts one with nothing in it.
    ///
    /// # Errors
    /// If Java or Maven is missing, or it does not come up.
    pub fn start() -> Result<Self> {
        Self::start_with(|_, _| Ok(()))
    }

    /// Starts one after `prepare` has put more settings into its folder; it is told the ports for clients and controllers.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start_with(prepare: impl FnOnce(&Path, [u16; 2]) -> Result<()>) -> Result<Self> {
        let [port, controller] = free_ports()?;
        let data = tempfile::tempdir()?;
        prepare(data.path(), [port, controller])?;
        let mut broker = Self::spawn(data, port, vec![port.to_string(), controller.to_string()])?;
        broker.wait_until_up()?;
        Ok(broker)
    }

    fn spawn(data: tempfile::TempDir, port: u16, arguments: Vec<String>) -> Result<Self> {
        let process = Running::start(command(&data, &arguments))?;
        Ok(Self { address: format!("127.0.0.1:{port}"), process, data, arguments })
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let address = self.address.clone();
        self.process.wait_for(START_TIME_MAX, || TcpStream::connect(&address).ok()).map(drop)
    }

    /// Ends it as a power cut does.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.signal(SIGKILL)?;
        while !self.process.has_ended()? {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Starts it again over the same data, and does not wait until it is up.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn begin_restart(&mut self) -> Result<()> {
        self.process = Running::start(command(&self.data, &self.arguments))?;
        Ok(())
    }

    /// Starts it again over the same data.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.begin_restart()?;
        self.wait_until_up()
    }
}

fn command(data: &tempfile::TempDir, arguments: &[String]) -> Command {
    let mut command = Command::new(root().join("tests/kafka/start"));
    command.arg(data.path()).args(arguments);
    command
}

/// Ports that nobody listens on.
///
/// # Errors
/// If there are none.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = free_port()?;
    }
    Ok(ports)
}

/// Brokers of three notice after four seconds that one is gone; it would be nine. They wait for the answer of one that is silent
/// for eight; it would be thirty, and a transaction whose markers it was to write is not over before that.
const SOONER: &str = "broker.session.timeout.ms=4000\nbroker.heartbeat.interval.ms=500\nrequest.timeout.ms=8000\n";

/// Three brokers that keep three copies of everything.
pub struct Trio {
    /// Where clients find them.
    pub bootstrap: String,
    /// Each of them.
    pub brokers: Vec<Broker>,
    client: BaseConsumer,
}

impl Trio {
    /// Starts three with nothing in them.
    ///
    /// # Errors
    /// As [`Broker::start`].
    pub fn start() -> Result<Self> {
        let ports: [u16; 6] = free_ports()?;
        let voters: Vec<String> = (0..3).map(|at| format!("{}@127.0.0.1:{}", at + 1, ports[3 + at])).collect();
        let spawn = |at: usize| {
            let arguments = [ports[at].to_string(), ports[3 + at].to_string(), (at + 1).to_string(), voters.join(",")];
            let data = tempfile::tempdir()?;
            fs::write(data.path().join("more.properties"), SOONER)?;
            Broker::spawn(data, ports[at], arguments.to_vec())
        };
        let mut brokers = (0..3).map(spawn).collect::<Result<Vec<_>>>()?;
        brokers.iter_mut().try_for_each(Broker::wait_until_up)?;
        let bootstrap = brokers.iter().map(|broker| broker.address.clone()).collect::<Vec<_>>().join(",");
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bootstrap).set("reconnect.backoff.max.ms", "500");
        Ok(Self { client: config.create()?, bootstrap, brokers })
    }

    /// Starts all of them again at once, as after a power cut.
    ///
    /// # Errors
    /// If one does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.brokers.iter_mut().try_for_each(Broker::begin_restart)?;
        self.brokers.iter_mut().try_for_each(Broker::wait_until_up)
    }

    /// Waits until every copy of every partition is in sync.
    ///
    /// # Errors
    /// With what was seen last, if that takes too long.
    pub fn wait_for_copies(&self) -> Result<()> {
        let deadline = Instant::now() + COPIES_TIME_MAX;
        loop {
            let seen = self.missing_copies();
            if matches!(seen, Ok(0)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "copies that are not in sync: {seen:?}");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    fn missing_copies(&self) -> Result<usize> {
        let told = self.client.fetch_metadata(None, Duration::from_secs(5))?;
        ensure!(told.brokers().len() == self.brokers.len(), "{} brokers answer", told.brokers().len());
        let partitions = told.topics().iter().flat_map(|topic| topic.partitions());
        Ok(partitions.map(|partition| partition.replicas().len() - partition.isr().len()).sum())
    }
}

/// Writes records without a transaction: offsets have no gaps then.
///
/// # Errors
/// If they are not taken.
pub fn produce(checked: &Checked, topic: &str, partition: u32, payloads: &[String]) -> Result<()> {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let producer = cluster.create::<BaseProducer<Logged>>(&cluster.producer())?;
    for payload in payloads {
        let record = BaseRecord::<(), String>::to(topic).partition(partition as i32).payload(payload);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    Ok(producer.flush(READ_TIME_MAX)?)
}

/// Members of a group that agree on who has what; none while they do not.
///
/// # Errors
/// If no broker answers.
pub fn members(bootstrap: &str, group: &str) -> Result<Option<usize>> {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let told = client.fetch_group_list(Some(group), Duration::from_secs(10))?;
    let group = told.groups().iter().find(|found| found.name() == group);
    Ok(group.filter(|group| group.state() == "Stable").map(|group| group.members().len()))
}

/// Makes a cluster forget a group that has no members, and with it what it had read.
///
/// # Errors
/// If a broker refuses.
pub fn forget_group(bootstrap: &str, group: &str) -> Result<()> {
    let client: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let told = runtime.block_on(client.delete_groups(&[group], &AdminOptions::new()))?;
    told.into_iter().try_for_each(|told| told.map(drop).map_err(|(name, code)| anyhow::anyhow!("{name}: {code}")))
}

/// Everything that lies in the raw topics of a pipeline, for the reference.
///
/// # Errors
/// If it cannot be read.
pub fn raw_records(checked: &Checked) -> Result<Input> {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let mut input = Input::new();
    for (topic, plan) in checked.plan.topics.iter().enumerate() {
        for partition in 0..plan.partitions {
            let records = raw_partition(&cluster, &plan.name, partition)?;
            input.insert(Source { topic: topic as u32, partition }, records);
        }
    }
    Ok(input)
}

/// Everything that lies in one partition of a raw topic, for the reference.
///
/// # Errors
/// If it cannot be read.
pub fn raw_partition(cluster: &Cluster, topic: &str, partition: u32) -> Result<Vec<Record>> {
    let record = |record: FeedRecord| Record {
        payload: record.value.unwrap_or_default(),
        offset: record.offset,
        arrival: record.time,
    };
    Ok(read_partition(cluster, topic, partition)?.into_iter().map(record).collect())
}

/// Everything that is committed in a topic of a pipeline, partition by partition.
///
/// # Errors
/// If it cannot be read.
pub fn read_topic(checked: &Checked, topic: &str, partitions: u32) -> Result<Vec<FeedRecord>> {
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let mut records = Vec::new();
    for partition in 0..partitions {
        records.append(&mut read_partition(&cluster, topic, partition)?);
    }
    Ok(records)
}

/// Everything that is committed in one partition.
///
/// # Errors
/// If it cannot be read.
pub fn read_partition(cluster: &Cluster, topic: &str, partition: u32) -> Result<Vec<FeedRecord>> {
    let mut feed = Feed::open(cluster, topic, partition, 0)?;
    let deadline = Instant::now() + READ_TIME_MAX;
    let mut records = Vec::new();
    while !feed.is_caught_up() {
        let mut batch = Vec::new();
        feed.read(Duration::from_millis(200), &mut batch)?;
        records.append(&mut batch);
        ensure!(Instant::now() < deadline, "{topic}/{partition} could not be read in {READ_TIME_MAX:?}");
    }
    let offsets: BTreeMap<u64, ()> = records.iter().map(|record| (record.offset, ())).collect();
    ensure!(offsets.len() == records.len(), "{topic}/{partition} was not read once");
    Ok(records)
}

fn admin(checked: &Checked) -> Result<Admin> {
    Ok(Admin::new(&Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?)?)
}

/// Makes a topic, as somebody else would.
///
/// # Errors
/// If the broker refuses.
pub fn make_topic(checked: &Checked, name: &str, partitions: u32, settings: &[(&str, &str)]) -> Result<()> {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let wish = TopicWish {
        name: name.into(),
        partitions,
        care: Care::Managed,
        replication: None,
        settings,
        at_first: BTreeMap::new(),
    };
    Ok(admin(checked)?.apply(&Step::Create(wish))?)
}

/// Adds partitions to a topic, as somebody else would.
///
/// # Errors
/// If the broker refuses.
pub fn grow_topic(checked: &Checked, name: &str, to: u32) -> Result<()> {
    Ok(admin(checked)?.apply(&Step::Grow { name: name.into(), from: 0, to })?)
}

/// Sets a topic, as somebody else would.
///
/// # Errors
/// If the broker refuses.
pub fn set_topic(checked: &Checked, name: &str, settings: &[(&str, &str)]) -> Result<()> {
    let change = |(setting, to): &(&str, &str)| Change {
        setting: (*setting).to_owned(),
        from: String::new(),
        to: (*to).to_owned(),
    };
    let changes = settings.iter().map(change).collect();
    Ok(admin(checked)?.apply(&Step::Alter { name: name.into(), changes })?)
}

/// What a topic is like now, if it is there.
///
/// # Errors
/// If the broker does not tell.
pub fn topic_fact(checked: &Checked, name: &str) -> Result<Option<TopicFact>> {
    Ok(admin(checked)?.facts(&[name])?.remove(name))
}
