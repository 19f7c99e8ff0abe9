//! The servers that the suite is passed by.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use tests::{
    binary::root,
    changes::Results,
    couchbase::{Document, Double, PASSWORD, USER, write_secret},
};

/// A Couchbase that can be asked.
pub struct Witness {
    pub name: &'static str,
    pub url: String,
    pub user: String,
    pub password: String,
    /// A scope that nobody used before.
    pub scope: String,
    pub secrets: TempDir,
    server: Server,
}

/// What has to live as long as the witness.
enum Server {
    Double(Double),
    Mock { _ends_with_it: Mock },
    Elsewhere,
}

/// The vendor's mock, ended with this value.
struct Mock {
    start: PathBuf,
    state: TempDir,
}

impl Drop for Mock {
    fn drop(&mut self) {
        let mut stop = Command::new(&self.start);
        drop(stop.arg("stop").env("COUCHBASE_MOCK_STATE", self.state.path()).output());
    }
}

impl Witness {
    fn new(name: &'static str, url: String, user: String, password: String, server: Server) -> Self {
        static TURN: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let scope = format!("s{now}-{}", TURN.fetch_add(1, Ordering::Relaxed));
        let secrets = tempfile::tempdir().unwrap();
        write_secret(secrets.path(), "server", &url, &user, &password).unwrap();
        Self { name, url, user, password, scope, secrets, server }
    }

    /// A double that has what it is told in this folder of secrets.
    pub fn of(double: Double) -> Self {
        Self::new("double", double.connection_string(), USER.into(), PASSWORD.into(), Server::Double(double))
    }

    /// The results, for sinks into the scope of this witness.
    pub fn results(&self) -> Results {
        Results::in_scope(&self.scope)
    }

    /// The same secret with another password.
    pub fn secrets_with(&self, password: &str) -> TempDir {
        let secrets = tempfile::tempdir().unwrap();
        write_secret(secrets.path(), "server", &self.url, &self.user, password).unwrap();
        secrets
    }

    /// The double behind it.
    pub fn double(&self) -> &Double {
        match &self.server {
            Server::Double(double) => double,
            _ => panic!("{} is no double", self.name),
        }
    }

    /// The double, to switch nodes off and on.
    pub fn double_mut(&mut self) -> &mut Double {
        match &mut self.server {
            Server::Double(double) => double,
            _ => panic!("{} is no double", self.name),
        }
    }

    /// What a double holds of the results.
    pub fn held(&self) -> BTreeMap<String, Document> {
        self.double().documents("shop", &self.scope, "sales").unwrap()
    }
}

/// Everybody who is there.
pub fn witnesses() -> Vec<Witness> {
    let mut found = vec![Witness::of(Double::start(2).unwrap())];
    found.extend(mock());
    found.extend(elsewhere());
    found
}

fn mock() -> Option<Witness> {
    let start = match env::var_os("COUCHBASE_MOCK") {
        Some(given) => {
            let given = PathBuf::from(given);
            assert!(given.is_file(), "COUCHBASE_MOCK: {} is no file", given.display());
            given
        }
        None => Some(root().join("../shared/couchbase/start")).filter(|beside| beside.is_file())?,
    };
    let mock = Mock { start, state: tempfile::tempdir().unwrap() };
    let started = Command::new(&mock.start).env("COUCHBASE_MOCK_STATE", mock.state.path()).output().unwrap();
    assert!(started.status.success(), "{}: {}", shown(&mock.start), String::from_utf8_lossy(&started.stderr));
    let url = String::from_utf8(started.stdout).unwrap().trim().to_owned();
    Some(Witness::new("mock", url, "Administrator".into(), "password".into(), Server::Mock { _ends_with_it: mock }))
}

fn elsewhere() -> Option<Witness> {
    let url = env::var("COUCHBASE_URL").ok()?;
    let variable = |name: &str, otherwise: &str| env::var(name).unwrap_or_else(|_| otherwise.into());
    let (user, password) = (variable("COUCHBASE_USER", "Administrator"), variable("COUCHBASE_PASSWORD", "password"));
    Some(Witness::new("server", url, user, password, Server::Elsewhere))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
