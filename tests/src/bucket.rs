//! A bucket on a server of its own that speaks S3, which others wrote: `tests/tools/s3` gets it.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use worker::{objects::Objects, secrets::Secrets};

use crate::{
    binary::{Running, free_address, root, run},
    roles::{PATIENCE, role},
};

/// How long the server's installation may take, the first time.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(300);

/// The server with one bucket, and the secret `lake` that opens it.
pub struct Bucket {
    /// The server, to stop it for a while.
    pub server: Running,
    /// Where the secrets lie, and what a test puts beside them.
    pub directory: tempfile::TempDir,
    endpoint: String,
    name: String,
}

impl Bucket {
    /// Starts it with an empty bucket of that name.
    ///
    /// # Errors
    /// If there is no such server, or it does not come up.
    pub fn start(name: &str) -> Result<Self> {
        // As the program does for itself; another test of this process may have done it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let tool = run(Command::new(root().join("tests/tools/s3")), INSTALL_TIME_MAX)?;
        ensure!(tool.status.success(), "{}", tool.stderr);
        let address = free_address()?;
        let (host, port) = address.split_once(':').context("an address has a port")?;
        let mut command = Command::new(tool.stdout.trim());
        command.args(["-H", host, "-p", port]);
        let mut server = Running::start(command)?;
        server.wait_for(PATIENCE, || TcpStream::connect(&address).ok())?;
        let directory = tempfile::tempdir()?;
        let secret = directory.path().join("secrets/lake");
        fs::create_dir_all(&secret)?;
        let endpoint = format!("http://{address}");
        let values =
            [("accessKeyId", "me"), ("secretAccessKey", "secret"), ("region", "eu-west-1"), ("endpoint", &endpoint)];
        values.iter().try_for_each(|(name, value)| fs::write(secret.join(name), value))?;
        let bucket = Self { server, directory, endpoint, name: name.to_owned() };
        bucket.make()?;
        Ok(bucket)
    }

    /// Makes the bucket itself.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn make(&self) -> Result<()> {
        ureq::put(self.address()).send_empty()?;
        Ok(())
    }

    /// Makes an empty object whose name ends in a slash, as people's tools make folders.
    ///
    /// # Errors
    /// If the server does not answer.
    pub fn make_folder(&self, name: &str) -> Result<()> {
        ureq::put(format!("{}/{name}/", self.address())).send_empty()?;
        Ok(())
    }

    /// Takes the bucket away, which must be empty; what is written to it then is refused.
    ///
    /// # Errors
    /// If it is not.
    pub fn unmake(&self) -> Result<()> {
        ureq::delete(self.address()).call()?;
        Ok(())
    }

    /// Objects below a prefix of it, to look at and to spoil.
    ///
    /// # Errors
    /// If the prefix is none.
    pub fn objects(&self, prefix: &str) -> Result<Objects> {
        let url = format!("s3://{}/{prefix}", self.name);
        Ok(Objects::open(&url, Some("lake"), &Secrets::in_directory(&self.secrets()))?)
    }

    /// The command of a role that may open it.
    ///
    /// # Errors
    /// If the program is not built.
    pub fn role(&self, name: &str, manifest: &Path, more: &[&str]) -> Result<Command> {
        let mut command = role(name, manifest, more)?;
        command.env("CLICKSTREAM_SECRETS", self.secrets());
        Ok(command)
    }

    fn address(&self) -> String {
        format!("{}/{}", self.endpoint, self.name)
    }

    /// Where secrets are mounted.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.directory.path().join("secrets")
    }
}
