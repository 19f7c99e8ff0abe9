//! The epochs that a processor works on, as the catalogue says from moment to moment: one that begins is started, one that
//! nobody needs any more is ended, and all are told of partitions that topics have grown by. What else another manifest has
//! put into the catalogue changes nothing here: that is for who comes next.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crds::Checked;

use super::{
    catalogue::{self, CatalogueFeed, Epoch, agree, epochs, grown},
    client::Cluster,
    names::Names,
    process::{ProcessError, Processor, Shared},
};
use crate::health::Ready;

/// Starts the threads of an epoch under the manifest that counts now, once its topics are there.
pub type Start<'a> = Box<dyn Fn(&Checked, &Epoch) -> anyhow::Result<Processor> + 'a>;

/// Everything that runs.
pub struct Epochs<'a> {
    cluster: Cluster,
    names: Names,
    checked: Checked,
    catalogue: CatalogueFeed,
    start: Start<'a>,
    running: BTreeMap<u32, Processor>,
    watchers: Vec<Watcher>,
    /// What is asked whether it is ready. Written here, read by requests for health.
    shared: Arc<Mutex<Vec<Arc<Shared>>>>,
}

impl<'a> Epochs<'a> {
    /// Starts every epoch that somebody needs. `checked` is settled and agrees with the catalogue.
    ///
    /// # Errors
    /// Where one cannot be started.
    pub fn start(cluster: &Cluster, names: &Names, checked: Checked, start: Start<'a>) -> anyhow::Result<Self> {
        let mut catalogue = CatalogueFeed::open(cluster, names)?;
        catalogue.whole()?;
        let checked = grown(&catalogue.catalogue, checked);
        let mut all = Self {
            cluster: cluster.clone(),
            names: names.clone(),
            checked,
            catalogue,
            start,
            running: BTreeMap::new(),
            watchers: Vec::new(),
            shared: Arc::default(),
        };
        all.follow()?;
        Ok(all)
    }

    /// Looks whether other epochs are to run, and sees to it.
    ///
    /// # Errors
    /// Where one cannot be started, or ended in disorder.
    pub fn turn(&mut self) -> anyhow::Result<()> {
        if !self.catalogue.look(Duration::ZERO)? {
            return Ok(());
        }
        self.grow()?;
        if agree(&self.catalogue.catalogue, &self.checked).is_ok() {
            self.follow()?;
        }
        Ok(())
    }

    /// Tells what runs that topics have grown. Whatever else is in a manifest that grew them: what comes in counts.
    fn grow(&mut self) -> anyhow::Result<()> {
        let grown = grown(&self.catalogue.catalogue, self.checked.clone());
        if grown.manifest.spec.topics == self.checked.manifest.spec.topics {
            return Ok(());
        }
        self.checked = grown;
        for epoch in epochs(&self.catalogue.catalogue, &self.checked)? {
            self.running.get(&epoch.number).into_iter().for_each(|runs| runs.grow(epoch.checked.plan.clone()));
        }
        Ok(())
    }

    fn follow(&mut self) -> anyhow::Result<()> {
        let wanted = epochs(&self.catalogue.catalogue, &self.checked)?;
        let is_wanted = |number: &u32| wanted.iter().any(|epoch| epoch.number == *number);
        let over: Vec<u32> = self.running.keys().copied().filter(|number| !is_wanted(number)).collect();
        for number in over {
            tracing::info!(epoch = number, "nobody needs it any more: it ends");
            self.running.remove(&number).map_or(Ok(()), Processor::stop)?;
        }
        let new: Vec<Epoch> = wanted.into_iter().filter(|epoch| !self.running.contains_key(&epoch.number)).collect();
        for epoch in &new {
            tracing::info!(epoch = epoch.number, "begins");
            self.running.insert(epoch.number, (self.start)(&self.checked, epoch)?);
        }
        let is_behind = |epoch: &Epoch| !self.catalogue.catalogue.caught_up.contains(&epoch.number);
        let behind: Vec<Epoch> = new.into_iter().filter(is_behind).collect();
        if !behind.is_empty() {
            self.watchers.push(Watcher::start(&self.cluster, &self.names, behind));
        }
        let shared = self.running.values().map(|processor| Arc::clone(&processor.shared)).collect();
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = shared;
        Ok(())
    }

    /// Whether all threads do their work.
    #[must_use]
    pub fn ready(&self) -> Ready {
        let all = Arc::clone(&self.shared);
        Arc::new(move || all.lock().unwrap_or_else(PoisonError::into_inner).iter().try_for_each(|one| one.ready()))
    }

    /// Whether a thread has ended before it was told to.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.running.values().any(Processor::has_failed)
    }

    /// Commits, checkpoints, leaves the groups and ends.
    ///
    /// # Errors
    /// The first failure of any thread.
    pub fn stop(self) -> Result<(), ProcessError> {
        self.running.values().for_each(Processor::ask_to_stop);
        self.watchers.into_iter().for_each(Watcher::stop);
        let ended: Vec<Result<(), ProcessError>> = self.running.into_values().map(Processor::stop).collect();
        ended.into_iter().collect()
    }
}

/// The thread that writes down which epochs have caught up.
struct Watcher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watcher {
    fn start(cluster: &Cluster, names: &Names, behind: Vec<Epoch>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (cluster, names, told) = (cluster.clone(), names.clone(), Arc::clone(&stop));
        let body = move || {
            if let Err(error) = catalogue::watch(&cluster, &names, &behind, &told) {
                tracing::error!(%error, "nobody looks whether epochs have caught up");
            }
        };
        let thread = std::thread::Builder::new().name("epochs".into()).spawn(body);
        Self { stop, thread: thread.expect("a process that just started can have one more thread") }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        drop(self.thread.join());
    }
}
