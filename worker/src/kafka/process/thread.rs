//! One processing thread: its member of the group, its tasks, its transactions. It shares nothing with others but counters.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use engine::{output::Output, plan::Plan, time::Millis};

use super::{
    ProcessError, Shared,
    fence::fence_the_dead,
    member::{Change, Member, Place},
    recover::recover,
    sources::{Role, topics},
    task::{Read, Task},
    told,
    transaction::{Targets, Transactions},
};
use crate::{
    clock,
    kafka::{checkpoints::CheckpointQueue, context::is_news},
    metrics::Stage,
    ports::LogError,
};

/// Milliseconds between two commits of a thread that has something to say.
const COMMIT_EVERY_MS: Millis = 250;

/// Raw bytes after which a thread commits even if it is not yet time, or waits for the commit before: what is read again
/// after a failure. An eighth of a second at full speed; each commit costs brokers about as much however large it is.
const COMMIT_BYTES_MAX: usize = 32 << 20;

/// How long a thread that found nothing to read waits before it looks again.
const IDLE_WAIT: Duration = Duration::from_millis(10);

/// How long a question for a partition's end may hold a thread up.
const END_TIME_MAX: Duration = Duration::from_millis(500);

/// A thread and what it owns. Fields are dropped in this order: tasks hold the consumer, which leaves the group last.
pub struct Thread {
    tasks: Vec<Task>,
    /// What the group gave us and the plan does not know: it is not read until `setup` has said that the topic has grown.
    aside: Vec<Place>,
    plan: Arc<Plan>,
    plan_number: u64,
    transactions: Transactions,
    member: Member,
    shared: Arc<Shared>,
    queue: CheckpointQueue,
    targets: Targets,
    number: usize,
    id: String,
    output: Output,
    last_commit_at: Millis,
}

impl Thread {
    /// Connects.
    ///
    /// # Errors
    /// Where no broker answers.
    pub fn start(shared: &Arc<Shared>, queue: CheckpointQueue, number: usize) -> Result<Self, ProcessError> {
        let id = shared.names.process_transaction(&shared.instance, number);
        let transactions = Transactions::start(&shared.cluster, &id)?;
        let (plan_number, plan) = shared.plan();
        let member = Member::join(&shared.cluster, &shared.names, &id, &topics(&shared.names, &plan))?;
        shared.state[number].tell_aside(String::new());
        Ok(Self {
            tasks: Vec::new(),
            aside: Vec::new(),
            transactions,
            member,
            queue,
            targets: Targets::new(&shared.names, &plan, shared.tells.clone()),
            plan,
            plan_number,
            number,
            id,
            output: Output::default(),
            last_commit_at: clock::now(),
            shared: Arc::clone(shared),
        })
    }

    /// Works until the process is told to stop; then commits and checkpoints for the last time.
    ///
    /// # Errors
    /// What no recovery can put right.
    pub fn run(mut self) -> Result<(), ProcessError> {
        while !self.shared.stop.load(Ordering::Acquire) {
            for change in self.member.poll() {
                self.answer(change)?;
            }
            if self.plan_number != self.shared.plan_number.load(Ordering::Acquire) {
                self.grow()?;
            }
            let now = clock::now();
            let read = self.read(now)?;
            self.mark_idle(now);
            self.commit_if_due(now)?;
            self.tell();
            if read == 0 {
                thread::park_timeout(IDLE_WAIT);
            }
        }
        self.last_words();
        Ok(())
    }

    fn answer(&mut self, change: Change) -> Result<(), ProcessError> {
        match change {
            Change::Given(places) => {
                tracing::info!(thread = self.number, partitions = ?names(&places), "given");
                self.settle()?;
                self.adopt(places)
            }
            Change::Taken(places) => {
                tracing::info!(thread = self.number, partitions = ?names(&places), "taken");
                // Whatever this commit comes to: who gets the partitions recovers from what is committed.
                if let Err(error) = self.commit(clock::now(), true) {
                    tracing::warn!(
                        thread = self.number,
                        error = told(&error),
                        "the last commit before a hand-over failed"
                    );
                    self.start_over(&places)?;
                }
                self.give_up(&places)
            }
            Change::Lost(places) => {
                tracing::warn!(thread = self.number, partitions = ?names(&places), "lost: another member has them");
                self.give_up(&places)
            }
        }
    }

    fn give_up(&mut self, places: &[Place]) -> Result<(), ProcessError> {
        self.tasks.retain(|task| !places.contains(&task.place));
        let read: Vec<Place> = places.iter().filter(|place| !self.aside.contains(place)).cloned().collect();
        self.aside.retain(|place| !places.contains(place));
        self.tell_aside();
        Ok(self.member.unassign(&read)?)
    }

    /// Goes on under a plan that knows more partitions, and begins those that nobody could read before.
    fn grow(&mut self) -> Result<(), ProcessError> {
        let committed = self.commit(clock::now(), true);
        (self.plan_number, self.plan) = self.shared.plan();
        tracing::info!(thread = self.number, "topics have grown: going on with all of their partitions");
        match committed {
            Ok(()) => self.begin_again(&[]),
            Err(error) => self.recover_all(&error),
        }
    }

    /// What of `places` the plan knows. The rest is put aside.
    fn known(&mut self, places: Vec<Place>) -> (Vec<Place>, Vec<Role>) {
        let (mut known, mut roles) = (Vec::new(), Vec::new());
        for place in places {
            match Role::of(&place, &self.shared.names, &self.plan) {
                Some(role) => {
                    known.push(place);
                    roles.push(role);
                }
                None => self.aside.push(place),
            }
        }
        self.tell_aside();
        (known, roles)
    }

    fn tell_aside(&self) {
        let wait = "wait to be read: say the topic's `partitions` in the manifest, and run `clickstream setup`";
        let why =
            if self.aside.is_empty() { String::new() } else { format!("{} {wait}", names(&self.aside).join(", ")) };
        if !why.is_empty() && is_news(&why) {
            tracing::warn!(thread = self.number, why);
        }
        self.shared.state[self.number].tell_aside(why);
    }

    /// Recovers the tasks of `places` and begins to read them.
    fn adopt(&mut self, places: Vec<Place>) -> Result<(), ProcessError> {
        let (places, roles) = self.known(places);
        if places.is_empty() {
            return Ok(self.member.assign(&[])?);
        }
        let began = Instant::now();
        let shared = Arc::clone(&self.shared);
        fence_the_dead(&shared.cluster, &shared.names, &self.member, &places, &self.id)?;
        let committed = self.member.committed(&places)?;
        let names: Vec<String> = roles.iter().map(|role| role.task_name(&self.plan)).collect();
        let stored = shared.checkpoints.read(&names)?;
        let now = clock::now();
        let mut from = Vec::new();
        for (((place, role), name), committed) in places.into_iter().zip(&roles).zip(&names).zip(committed) {
            let Range { start: log_start, end } = self.member.offsets(&place, super::client_time())?;
            let stored = &stored[name];
            refuse_another_log(&place, committed, stored.newest(), end)?;
            let recovered = recover((&shared, &self.plan), role, name, stored, committed, log_start)?;
            self.queue.know(name, stored);
            let (start, until) = (recovered.from, recovered.committed);
            let mut task = Task::new(role, &self.plan, &self.member, place.clone(), recovered, now);
            if start > task.work.position() {
                task.checkpoint_soon();
            }
            tracing::info!(task = name, from = start, until, log_start, "recovers");
            self.tasks.push(task);
            // Records before the log's start are gone; the task was asked whether it can do without.
            from.push((place, start.max(log_start)));
            self.skip_lost(log_start, start);
        }
        self.tasks.sort_by(|left, right| left.name.cmp(&right.name));
        self.member.assign(&from)?;
        self.shared.metrics.recovered(names.len(), began.elapsed());
        Ok(())
    }

    /// Counts what retention took between the state of the task that was just pushed and the log's start.
    fn skip_lost(&mut self, log_start: u64, start: u64) {
        if let Some(task) = self.tasks.last_mut().filter(|task| log_start > start && !task.is_replaying()) {
            task.skip_to(log_start);
        }
    }

    fn read(&mut self, now: Millis) -> Result<usize, ProcessError> {
        let mut read = 0;
        let mut out_of_range = Vec::new();
        for task in &mut self.tasks {
            let replaying = task.is_replaying();
            match task.read(now)? {
                Read::Records(count) => {
                    read += count;
                    self.shared.metrics.read(count, replaying);
                }
                Read::OutOfRange => out_of_range.push(task.place.clone()),
            }
        }
        for place in out_of_range {
            self.find_place_again(&place)?;
        }
        Ok(read)
    }

    /// The log no longer has what a task wants next: count it as expired where that is possible, or recover.
    fn find_place_again(&mut self, place: &Place) -> Result<(), ProcessError> {
        self.settle()?;
        let start = self.member.offsets(place, super::client_time())?.start;
        tracing::warn!(thread = self.number, topic = place.topic, partition = place.partition, start, "out of range");
        let Some(task) = self.tasks.iter_mut().find(|task| task.place == *place) else { return Ok(()) };
        self.member.unassign(std::slice::from_ref(place))?;
        if task.skip_to(start) {
            task.split(&self.member);
            return Ok(self.member.assign(&[(place.clone(), start)])?);
        }
        self.tasks.retain(|task| task.place != *place);
        self.adopt(vec![place.clone()])
    }

    fn mark_idle(&mut self, now: Millis) {
        let member = &self.member;
        for task in &mut self.tasks {
            task.mark_if_idle(now, |place, next| member.is_at_end(place, next, END_TIME_MAX));
        }
    }

    fn commit_if_due(&mut self, now: Millis) -> Result<(), ProcessError> {
        let waiting: usize =
            self.tasks.iter().filter(|task| !task.is_replaying()).map(|task| task.uncommitted_bytes).sum();
        let is_full = waiting >= COMMIT_BYTES_MAX;
        let outcome = match self.transactions.look() {
            // Reading on is better than waiting, until there is so much that a failure would cost too much.
            Ok(None) if self.transactions.is_busy() && !is_full => return Ok(()),
            Ok(took) => {
                self.heard(took);
                if !is_full && (0..COMMIT_EVERY_MS).contains(&(now - self.last_commit_at)) {
                    return Ok(());
                }
                self.commit(now, false)
            }
            Err(error) => Err(error),
        };
        outcome.or_else(|error| self.recover_all(&error))
    }

    fn heard(&self, took: Option<Duration>) {
        let Some(took) = took else { return };
        self.shared.metrics.committed(took);
        self.shared.state[self.number].commits().succeeded();
    }

    /// Waits for the commit that is under way; if it failed, all tasks are recovered.
    fn settle(&mut self) -> Result<(), ProcessError> {
        match self.transactions.settle() {
            Ok(took) => {
                self.heard(took);
                Ok(())
            }
            Err(error) => self.recover_all(&error),
        }
    }

    fn recover_all(&mut self, error: &LogError) -> Result<(), ProcessError> {
        let why = told(error);
        tracing::warn!(thread = self.number, error = why, "a commit failed: its tasks are recovered");
        self.shared.state[self.number].commits().failed(why);
        self.start_over(&[])
    }

    /// Commits what all tasks have to say as one transaction, behind the one before. `last` is for tasks that are about to
    /// go: their states are written down too, and nothing is under way afterwards.
    fn commit(&mut self, now: Millis, last: bool) -> Result<(), LogError> {
        let took = self.transactions.settle()?;
        self.heard(took);
        self.last_commit_at = now;
        let every_ms = self.shared.checkpoint_every_ms;
        let ready = |task: &&mut Task| !task.is_replaying() && (task.has_news || last || task.is_due(now, every_ms));
        let mut saying: Vec<&mut Task> = self.tasks.iter_mut().filter(ready).collect();
        if saying.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let mut open = self.transactions.begin()?;
        let mut whole = Vec::new();
        for task in &mut saying {
            let checkpoint = last || task.wants_checkpoint(now, every_ms);
            task.flush(now, checkpoint, &mut self.output);
            whole.push(checkpoint);
            let what = (&self.targets, &*self.plan, &*shared.schemas);
            open.write(&mut self.output, what)?;
            open.reached(&task.place, task.work.position())?;
        }
        open.commit(self.member.proof()?)?;
        if !whole.contains(&true) {
            return Ok(());
        }
        // A snapshot is of what was committed, so the tasks wait for it here.
        let took = self.transactions.settle()?;
        for (task, _) in saying.iter_mut().zip(whole).filter(|(_, whole)| *whole) {
            self.queue.write(task.snapshot(now));
        }
        self.heard(took);
        Ok(())
    }

    /// After a failed commit: all tasks are dropped and, but for those `leaving`, recovered from what is committed. Where the
    /// group has given them away meanwhile, none is: it is about to say so, and takes the partitions then.
    fn start_over(&mut self, leaving: &[Place]) -> Result<(), ProcessError> {
        self.shared.metrics.commits_failed.inc();
        self.output.clear();
        // A new producer under the same id ends what the old one left open.
        self.transactions = Transactions::start(&self.shared.cluster, &self.id)?;
        self.begin_again(leaving)
    }

    /// Drops all tasks, and recovers those that are not `leaving`.
    fn begin_again(&mut self, leaving: &[Place]) -> Result<(), ProcessError> {
        let mine: Vec<Place> = self.tasks.drain(..).map(|task| task.place).collect();
        let mut staying: Vec<Place> = mine.into_iter().filter(|place| !leaving.contains(place)).collect();
        if !self.member.is_current() {
            return Ok(());
        }
        self.member.unassign(&staying)?;
        let (leaving, again) = std::mem::take(&mut self.aside).into_iter().partition(|place| leaving.contains(place));
        self.aside = leaving;
        staying.extend::<Vec<Place>>(again);
        self.adopt(staying)
    }

    fn tell(&self) {
        let replaying = self.tasks.iter().filter(|task| task.is_replaying()).count();
        let state = &self.shared.state[self.number];
        state.tell(self.member.has_joined(), self.tasks.len(), replaying);
        for stage in Stage::ALL {
            let waiting = self.tasks.iter().filter(|task| task.stage() == stage).filter_map(Task::waits_since);
            state.tell_waiting(stage, waiting.min());
        }
    }

    fn last_words(&mut self) {
        if let Err(error) = self.commit(clock::now(), true) {
            tracing::warn!(
                thread = self.number,
                error = told(&error),
                "the last commit failed: who comes next recovers"
            );
            self.transactions.abort();
        }
        let places: Vec<Place> = self.tasks.drain(..).map(|task| task.place).collect();
        if let Err(error) = self.member.unassign(&places) {
            tracing::debug!(%error, "leaving without ceremony");
        }
    }
}

/// A topic that was deleted and made again begins at 0, and the group's positions went with the old one. What it holds must
/// not be taken for what comes next, and what was processed cannot be taken back. `known` is the newest checkpoint's position.
/// Of a pipeline that rested for long, brokers have forgotten the positions too: nobody knows that it was not that.
fn refuse_another_log(place: &Place, committed: Option<u64>, known: Option<u64>, end: u64) -> Result<(), LogError> {
    let what = match (committed, known) {
        (Some(committed), _) if committed > end => format!("it ends at {end}, but was processed up to {committed}"),
        (None, Some(known @ 1..)) => format!("it was processed up to {known} or further, and its position is gone"),
        _ => return Ok(()),
    };
    let Place { topic, partition } = place;
    let told = format!(
        "{what}: the topic was deleted and made again, brokers lost what they had, or the pipeline rested for longer than they \
         remember positions (offsets.retention.minutes, a week); nothing is read before all is as it was, or the pipeline has \
         another name"
    );
    Err(LogError::Io { action: "read", place: format!("{topic}/{partition}"), source: told.into() })
}

fn names(places: &[Place]) -> Vec<String> {
    places.iter().map(|place| format!("{}/{}", place.topic, place.partition)).collect()
}
