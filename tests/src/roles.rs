//! Roles of a fleet as a test runs them: started with a port for their health, asked, ended in order.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::binary::{Ended, Running, clickstream, free_address, run};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// End at once, as a power cut does.
pub const SIGKILL: i32 = 9;
/// Ask for the end.
pub const SIGTERM: i32 = 15;
/// Go on.
pub const SIGCONT: i32 = 18;
/// Stop where it is.
pub const SIGSTOP: i32 = 19;

/// Waits for a condition, and says what it last saw when it gives up.
///
/// # Panics
/// When it gives up.
pub fn wait<T: std::fmt::Debug>(what: &str, look: impl Fn() -> T, is_wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = look();
        if is_wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: {seen:?}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// What `serve` answers as JSON, if it does.
#[must_use]
pub fn get(address: &str, path: &str) -> Option<Value> {
    let answer = ureq::get(format!("http://{address}{path}")).call().ok()?;
    serde_json::from_str(&answer.into_body().read_to_string().ok()?).ok()
}

/// A role of the fleet that runs.
pub struct Role {
    /// The program.
    pub running: Running,
    /// Address of its health.
    pub health: String,
}

/// The command of a role.
///
/// # Errors
/// If the program is not built.
pub fn role(name: &str, manifest: &Path, more: &[&str]) -> Result<Command> {
    let mut command = clickstream()?;
    command.env("RUST_LOG", "info").arg(name).arg("--manifest").arg(manifest).args(more);
    Ok(command)
}

/// A port that the system chooses, for the health of a role that nobody asks: tests run side by side.
pub const UNASKED: [&str; 2] = ["--health-listen", "127.0.0.1:0"];

/// Makes the topics of a pipeline.
///
/// # Errors
/// If the brokers refuse.
pub fn set_up(manifest: &Path) -> Result<()> {
    let ended = run(role("setup", manifest, &[])?, PATIENCE)?;
    ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    Ok(())
}

impl Role {
    /// Starts one.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, manifest: &Path, more: &[&str]) -> Result<Self> {
        Self::start_as(role(name, manifest, more)?)
    }

    /// Starts one by its command, which may know more.
    ///
    /// # Errors
    /// As [`Role::start`].
    pub fn start_as(mut command: Command) -> Result<Self> {
        let health = free_address()?;
        command.args(["--health-listen", &health]);
        Ok(Self { running: Running::start(command)?, health })
    }

    /// Whether it says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        ureq::get(format!("http://{}/readyz", self.health)).call().is_ok()
    }

    /// Waits until it does.
    ///
    /// # Errors
    /// If it ends before, or time passes.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let address = format!("http://{}/readyz", self.health);
        self.running.wait_for(PATIENCE, || ureq::get(&address).call().ok()).map(drop)
    }

    /// Waits until it says that it is not, and answers all the same.
    ///
    /// # Errors
    /// As [`Role::wait_until_ready`].
    pub fn wait_until_unready(&mut self) -> Result<()> {
        let address = format!("http://{}/readyz", self.health);
        let refused = || matches!(ureq::get(&address).call(), Err(ureq::Error::StatusCode(503))).then_some(());
        self.running.wait_for(PATIENCE, refused)
    }

    /// A figure of its metrics, by name and labels as they are written; none if it is not there.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn figure(&self, series: &str) -> Result<Option<f64>> {
        let text = ureq::get(format!("http://{}/metrics", self.health)).call()?.into_body().read_to_string()?;
        let line = text.lines().filter_map(|line| line.rsplit_once(' ')).find(|(name, _)| *name == series);
        line.map(|(_, value)| value.parse().context("a figure is no number")).transpose()
    }

    /// Waits until a figure is as wanted, and returns it.
    ///
    /// # Errors
    /// As [`Role::wait_until_ready`], with the last figure.
    pub fn wait_for_figure(&mut self, series: &str, is_wanted: impl Fn(f64) -> bool) -> Result<f64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let figure = self.figure(series).ok().flatten();
            if let Some(found) = figure.filter(|figure| is_wanted(*figure)) {
                return Ok(found);
            }
            ensure!(!self.running.has_ended()?, "the program ended too early");
            ensure!(Instant::now() < deadline, "{series} is {figure:?}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Ends it by SIGTERM and returns what it said.
    ///
    /// # Errors
    /// If it does not end in order.
    pub fn end_in_order(self) -> Result<Ended> {
        self.running.signal(SIGTERM)?;
        let ended = self.running.wait(PATIENCE)?;
        ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        Ok(ended)
    }
}
