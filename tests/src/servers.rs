//! Servers on free ports of loopback, with their data in a temporary folder, ended with the test.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::binary::free_port;

/// Longest that a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server and its folder.
pub struct Server {
    /// Where it listens.
    pub port: u16,
    /// Its secret, as a mounted directory.
    pub secrets: TempDir,
    folder: TempDir,
    child: Child,
    make: fn(&Path, u16) -> Command,
}

impl Server {
    /// PostgreSQL with the user `postgres` and no password: loopback only, and gone with the test.
    pub fn postgres() -> Self {
        let folder = tempfile::tempdir().unwrap();
        owned_by_postgres(folder.path());
        let data = folder.path().join("data");
        let made = as_postgres(&postgres_binary("initdb"))
            .args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb failed");
        let make = |folder: &Path, port: u16| {
            let mut command = as_postgres(&postgres_binary("postgres"));
            command.arg("-D").arg(folder.join("data")).args([
                "-h",
                "127.0.0.1",
                "-p",
                &port.to_string(),
                "-F",
                "-k",
                "",
            ]);
            command
        };
        Self::start(folder, make, |port| format!("postgres://postgres@127.0.0.1:{port}/postgres"))
    }

    /// Redis without a file.
    pub fn redis() -> Self {
        let make = |folder: &Path, port: u16| {
            let mut command = Command::new("redis-server");
            command.current_dir(folder).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
            command.args(["--save", "", "--appendonly", "yes"]);
            command
        };
        Self::start(tempfile::tempdir().unwrap(), make, |port| format!("redis://127.0.0.1:{port}/0"))
    }

    fn start(folder: TempDir, make: fn(&Path, u16) -> Command, url: fn(u16) -> String) -> Self {
        let port = free_port().unwrap();
        let secrets = tempfile::tempdir().unwrap();
        fs::create_dir(secrets.path().join("server")).unwrap();
        fs::write(secrets.path().join("server/url"), url(port)).unwrap();
        let child = spawn(make(folder.path(), port), port);
        Self { port, secrets, folder, child, make }
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            assert!(Instant::now() < deadline, "the port stays open");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Starts it again over the same data.
    pub fn restart(&mut self) {
        self.child = spawn((self.make)(self.folder.path(), self.port), self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(mut command: Command, port: u16) -> Child {
    let name = format!("{:?}", command.get_program());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut start =
        || command.spawn().unwrap_or_else(|error| panic!("{name} is not there, tests/run installs it: {error}"));
    let mut child = start();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "{name} does not listen");
        // What was killed may still hold what the new one wants.
        if child.try_wait().unwrap().is_some() {
            child = start();
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    child
}

/// The program of the newest version that is installed.
fn postgres_binary(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("no PostgreSQL, tests/run installs it");
    let mut found: Vec<PathBuf> = versions.map(|version| version.unwrap().path().join("bin").join(name)).collect();
    found.retain(|path| path.is_file());
    found.sort();
    found.pop().expect("no PostgreSQL, tests/run installs it")
}

/// PostgreSQL refuses to run as root; the package brings a user for it.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program).current_dir("/");
    command
}

fn owned_by_postgres(folder: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg("postgres:postgres").arg(folder).status().unwrap().success());
    }
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.starts_with(b"0\n")
}
