//! The built program: run to its end, or started, asked and stopped. Waits for conditions with a deadline.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tempfile::TempDir;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program to its end.
pub fn clickstream(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clickstream")).args(arguments).output().expect("the program starts")
}

/// Runs the program, which must end with `code`; returns what it wrote to the standard output and error.
pub fn ends_with(code: i32, arguments: &[&str]) -> (String, String) {
    let output = clickstream(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}{err}");
    (out, err)
}

/// A directory with a manifest and its data.
pub struct Shop {
    directory: TempDir,
}

impl Shop {
    /// Writes the files.
    pub fn new(manifest: &str, files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("shop.yaml"), manifest).unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn manifest(&self) -> String {
        self.path("shop.yaml").display().to_string()
    }

    /// The data directory, as an argument.
    pub fn data(&self) -> String {
        self.path("data").display().to_string()
    }

    /// Runs the pipeline until it is done; returns what it told.
    pub fn run_until_done(&self, arguments: &[&str]) -> String {
        let (manifest, data) = (self.manifest(), self.data());
        let own = ["run", &manifest, "--data-dir", &data, "--listen", "127.0.0.1:0", "--until-done"];
        ends_with(0, &[&own[..], arguments].concat()).1
    }

    /// Rows of a table in the data directory.
    pub fn query(&self, sql: &str) -> Vec<Json> {
        let (out, _) = ends_with(0, &["query", "--data-dir", &self.data(), "--sql", sql, "--format", "jsonl"]);
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts the pipeline and waits until it answers.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let address = self.path("data").join("address");
        drop(fs::remove_file(&address));
        let mut command = Command::new(env!("CARGO_BIN_EXE_clickstream"));
        command.args(["run", &self.manifest(), "--data-dir", &self.data(), "--listen", "127.0.0.1:0"]).args(arguments);
        command.stdout(Stdio::null()).stderr(fs::File::create(self.path("stderr")).unwrap());
        let child = command.spawn().expect("the program starts");
        let mut running = Running { child, url: String::new(), stderr: self.path("stderr") };
        running.url = running.wait_for("an address", |_| fs::read_to_string(&address).ok()).trim().to_owned();
        running
    }
}

/// A program that runs; killed when dropped.
pub struct Running {
    child: Child,
    pub url: String,
    stderr: PathBuf,
}

impl Running {
    /// Looks again and again until there is something.
    pub fn wait_for<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended while we waited for {what}: {}", self.told());
            assert!(Instant::now() < deadline, "waited for {what} in vain: {}", self.told());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What it wrote to the standard error.
    pub fn told(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// An answer of its API.
    pub fn get(&self, path: &str) -> Json {
        serde_json::from_str(&self.text(path)).unwrap()
    }

    /// An answer as it is.
    pub fn text(&self, path: &str) -> String {
        let mut answer = ureq::get(format!("{}{path}", self.url)).call().unwrap();
        answer.body_mut().read_to_string().unwrap()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end: {}", self.told());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.told());
        self.told()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
