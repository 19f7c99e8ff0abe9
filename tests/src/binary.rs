//! The built programs, run as people run them: found beside the test, started on free ports, watched, killed, waited for.
//!
//! Nothing here sleeps for a while and hopes: everything waits for a condition with a deadline, and says what it last
//! saw when the deadline passes.

use std::{
    io::Read,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::bench::meter;

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies below the root").to_path_buf()
}

/// The command `clickstream`, as built in the profile of this test.
///
/// # Errors
/// If it is not there: `cargo build -p worker` makes it, and `tests/run` does so first.
pub fn clickstream() -> Result<Command> {
    program("clickstream")
}

/// The command `clickstream-operator`, as built in the profile of this test.
///
/// # Errors
/// If it is not there: `cargo build -p operator` makes it, and `tests/run` does so first.
pub fn operator() -> Result<Command> {
    program("clickstream-operator")
}

/// The command `kubectl-clickstream`, as built in the profile of this test.
///
/// # Errors
/// If it is not there: `cargo build -p operator` makes it, and `tests/run` does so first.
pub fn plugin() -> Result<Command> {
    program("kubectl-clickstream")
}

fn program(name: &str) -> Result<Command> {
    let here = std::env::current_exe().context("failed to find this program")?;
    let folder = here.ancestors().find(|folder| folder.join(name).is_file());
    let folder = folder.with_context(|| format!("no {name} beside {}: build it first", here.display()))?;
    let mut command = Command::new(folder.join(name));
    command.stdin(Stdio::null());
    Ok(command)
}

/// Lines of a program that are shown when a test fails.
const LAST_WORDS: usize = 30;

/// Ports for tests: below those that the system gives to connections by itself, which may take any of them at any time.
const PORTS: std::ops::Range<u32> = 12_000..29_000;

/// An address on loopback that nobody listens on.
///
/// # Errors
/// If there is none.
pub fn free_address() -> Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}

/// A port of loopback that nobody listens on, and that this program was not told before.
///
/// # Errors
/// If there is none.
pub fn free_port() -> Result<u16> {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    // Programs that run side by side begin at different ones.
    let next = NEXT.get_or_init(|| AtomicU32::new(std::process::id().wrapping_mul(37)));
    for _ in PORTS {
        let port = PORTS.start + next.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let port = u16::try_from(port)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on loopback")
}

/// What a program left.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Errors
/// If it cannot be started, or does not end in time.
pub fn run(command: Command, patience: Duration) -> Result<Ended> {
    Running::start(command)?.wait(patience)
}

/// A program that runs; it is killed when this is dropped, and if that is because a test fails, its last words are shown.
pub struct Running {
    child: Child,
    stdout: Option<Said>,
    stderr: Option<Said>,
}

/// What a program has said, and the thread that listens.
struct Said {
    /// Written by the thread, read by tests.
    text: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts a command; what it says is collected.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let shown = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {shown}"))?;
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Ok(Self { child, stdout, stderr })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has complained about so far.
    #[must_use]
    pub fn complaints(&self) -> String {
        self.stderr.as_ref().map(Said::so_far).unwrap_or_default()
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends it at once, as a power cut would.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(mut self) -> Result<Ended> {
        self.child.kill().context("failed to kill")?;
        self.end()
    }

    /// Sends a signal by its number.
    ///
    /// # Errors
    /// If the program has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let id = i32::try_from(self.child.id())?;
        // SAFETY: kill takes two integers; the process is our own child, which was not waited for.
        ensure!(unsafe { libc::kill(id, signal) } == 0, "failed to send signal {signal}");
        Ok(())
    }

    /// Waits until a condition holds while the program runs.
    ///
    /// # Errors
    /// If the program ends before, or time passes.
    pub fn wait_for<T>(&mut self, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = condition() {
                return Ok(found);
            }
            if self.has_ended()? {
                let ended = self.end()?;
                bail!("the program ended with {} too early: {}{}", ended.status, ended.stdout, ended.stderr);
            }
            ensure!(Instant::now() < deadline, "waited {patience:?} in vain");
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// If it does not come in time; the program is then killed.
    pub fn wait(mut self, patience: Duration) -> Result<Ended> {
        let deadline = Instant::now() + patience;
        while !self.has_ended()? {
            if Instant::now() >= deadline {
                self.child.kill().context("failed to kill")?;
                let ended = self.end()?;
                bail!("still running after {patience:?}: {}{}", ended.stdout, ended.stderr);
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        self.end()
    }

    /// Waits for the end and returns the largest amount of memory that was seen on the way.
    ///
    /// # Errors
    /// As [`Running::wait`].
    pub fn watch_memory(mut self, patience: Duration) -> Result<(u64, Ended)> {
        let (deadline, id) = (Instant::now() + patience, self.id());
        let mut peak = 0;
        while !self.has_ended()? {
            peak = peak.max(meter::peak_bytes(id));
            ensure!(Instant::now() < deadline, "still running after {patience:?}");
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok((peak, self.end()?))
    }

    fn end(&mut self) -> Result<Ended> {
        let status = self.child.wait()?;
        let text = |said: &mut Option<Said>| said.take().map(Said::whole).unwrap_or_default();
        Ok(Ended { status, stdout: text(&mut self.stdout), stderr: text(&mut self.stderr) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Whatever went wrong, this may be why.
            let all = self.complaints();
            let lines: Vec<&str> = all.lines().collect();
            println!("--- process {}\n{}", self.id(), lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n"));
        }
        // It may have ended by itself; either way nothing is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn whole(self) -> String {
        let Self { text, thread } = self;
        // A broken pipe ends the text; what was read counts.
        let _ = thread.join();
        String::from_utf8_lossy(&text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

fn collect(mut from: impl Read + Send + 'static) -> Said {
    let text = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&text);
    let thread = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
        }
    });
    Said { text, thread }
}
