//! A real etcd and kube-apiserver on loopback, for as long as a value lives: what an envtest is.
//!
//! There are no nodes and no controllers: objects are checked, defaulted, admitted and stored, and nothing ever runs.
//! The programs are those that `tests/tools/kubernetes` finds. Ports are free ones, state is a temporary folder, and
//! both processes end with the value.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary::{Running, free_address},
    chart::tool,
};

/// The API answers after 4 seconds on quiet cores; these are for busy ones.
const PATIENCE: Duration = Duration::from_secs(180);

/// Who asks: the token's user is in the group that may do everything.
const TOKEN: &str = "of-a-test-on-loopback";

/// Who asks as the chart's service account: its rights are those of its roles.
const ACCOUNT_TOKEN: &str = "of-the-account-on-loopback";

/// The account's name. A real one has a token that a controller made; there is none here.
const ACCOUNT: &str = "system:serviceaccount:shop:clickstream";

/// A running API server and its store.
pub struct ApiServer {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    kubeconfig_of_account: PathBuf,
    audit: PathBuf,
    // Dropped in this order: the server must not see its store go.
    _server: Running,
    _store: Running,
    _folder: TempDir,
}

impl ApiServer {
    /// Starts both and waits until the API is ready.
    ///
    /// # Errors
    /// If the programs are not there, or the API is not ready in time; the error is what they said last.
    pub fn start() -> Result<Self> {
        let programs = PathBuf::from(tool("kubernetes")?);
        let folder = TempDir::with_prefix("api-server-")?;
        let (client, peer, address) = (free_address()?, free_address()?, free_address()?);
        let store = Running::start(store(&programs, folder.path(), &client, &peer))?;
        let mut server = Running::start(server(&programs, folder.path(), &client, &address)?)?;
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(&kubeconfig, kubeconfig_text(&address, TOKEN))?;
        let kubeconfig_of_account = folder.path().join("kubeconfig-of-account");
        fs::write(&kubeconfig_of_account, kubeconfig_text(&address, ACCOUNT_TOKEN))?;
        let audit = folder.path().join("audit.log");
        let kubectl = programs.join("kubectl");
        server.wait_for(PATIENCE, || {
            let ready = ask(&kubectl, &kubeconfig, &["get", "--raw", "/readyz"]).ok()?;
            (ready.stdout == b"ok").then_some(())
        })?;
        Ok(Self { kubectl, kubeconfig, kubeconfig_of_account, audit, _server: server, _store: store, _folder: folder })
    }

    /// The file that lets clients in.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The file that lets a client in as the chart's service account.
    #[must_use]
    pub fn kubeconfig_of_account(&self) -> &Path {
        &self.kubeconfig_of_account
    }

    /// Where kubectl is.
    #[must_use]
    pub fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// Every request of the account so far, by the server's own record.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.audit).context("failed to read the record of requests")?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).context("a record is no JSON")).collect()
    }

    /// Runs kubectl.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        ask(&self.kubectl, &self.kubeconfig, arguments)
    }

    /// Runs kubectl and returns what it says, complaints included.
    ///
    /// # Errors
    /// If it fails; the error is what it says.
    pub fn kubectl_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl(arguments)?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "kubectl {arguments:?}: {said}");
        Ok(said)
    }
}

fn ask(kubectl: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(kubectl);
    command.arg("--kubeconfig").arg(kubeconfig).arg("--request-timeout=20s").args(arguments).stdin(Stdio::null());
    command.output().with_context(|| format!("failed to start {}", kubectl.display()))
}

fn store(programs: &Path, folder: &Path, client: &str, peer: &str) -> Command {
    let mut command = Command::new(programs.join("etcd"));
    command.arg("--data-dir").arg(folder.join("etcd"));
    // Nothing here outlives the test, so nothing waits for the disk.
    command.args(["--unsafe-no-fsync", "--log-level=error"]);
    for (what, address) in [("client", client), ("peer", peer)] {
        command.arg(format!("--listen-{what}-urls=http://{address}"));
    }
    command.arg(format!("--advertise-client-urls=http://{client}"));
    command.arg(format!("--initial-advertise-peer-urls=http://{peer}"));
    command.arg(format!("--initial-cluster=default=http://{peer}"));
    command
}

fn server(programs: &Path, folder: &Path, store: &str, address: &str) -> Result<Command> {
    let key = folder.join("accounts.key");
    let made = Command::new("openssl").args(["genpkey", "-quiet", "-algorithm", "RSA", "-out"]).arg(&key).output();
    let made = made.context("failed to start openssl, which makes the key of service accounts")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    let tokens = folder.join("tokens.csv");
    let account = format!("{ACCOUNT_TOKEN},{ACCOUNT},account,system:serviceaccounts");
    fs::write(&tokens, format!("{TOKEN},test,test,system:masters\n{account}\n"))?;
    let policy = folder.join("audit-policy.yaml");
    let rules = format!("[{{level: Metadata, users: ['{ACCOUNT}'], omitStages: [RequestReceived]}}, {{level: None}}]");
    fs::write(&policy, format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}\n"))?;
    let (_, port) = address.rsplit_once(':').context("an address has a port")?;
    let mut command = Command::new(programs.join("kube-apiserver"));
    command.args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]);
    command.args(["--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true"]);
    // No controller makes the account `default` of a namespace, without which pods would be refused.
    command.arg("--disable-admission-plugins=ServiceAccount");
    // As strict clusters have it: who names an owner must have the right to its finalizers.
    command.arg("--enable-admission-plugins=OwnerReferencesPermissionEnforcement");
    command.arg("--service-account-issuer=https://kubernetes.default.svc");
    command.arg(format!("--secure-port={port}")).arg(format!("--etcd-servers=http://{store}"));
    for (flag, path) in [
        ("cert-dir", &folder.join("certificates")),
        ("token-auth-file", &tokens),
        ("audit-policy-file", &policy),
        ("audit-log-path", &folder.join("audit.log")),
        ("service-account-key-file", &key),
        ("service-account-signing-key-file", &key),
    ] {
        command.arg(format!("--{flag}={}", path.display()));
    }
    Ok(command)
}

/// The server's certificate is its own, made a moment ago; on loopback nobody else could answer.
fn kubeconfig_text(address: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters:\n- name: test\n  cluster: {{server: 'https://{address}', insecure-skip-tls-verify: true}}\n\
         users:\n- name: test\n  user: {{token: {token}}}\n\
         contexts:\n- name: test\n  context: {{cluster: test, user: test}}\n"
    )
}
