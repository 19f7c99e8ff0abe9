//! A broker with a listener for every way in: TLS, TLS that asks for a certificate, and SASL over TLS; its certificates are
//! made by the `openssl` program for the test. Another listener wants tokens of an identity provider of ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::{
    binary::run,
    couchbase::AUTHORITY,
    kafka::{Broker, free_ports},
    roles::PATIENCE,
    tokens::{AUDIENCE, CLIENT, Provider, STRANGER},
};

/// Who may come in.
pub const USER: &str = "alice";

/// With which password: characters that a configuration could stumble over.
pub const PASSWORD: &str = "s3cret with;signs=1";

/// How long a token counts. Brokers end a connection with the token that it showed, unless it shows another before.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(20);

/// The broker, its ways in, and the secrets for them.
pub struct Secured {
    /// TLS.
    pub tls: String,
    /// TLS with certificates on both sides.
    pub mutual: String,
    /// SASL over TLS.
    pub sasl: String,
    /// Tokens over TLS.
    pub oauth: String,
    /// Who gives them.
    pub provider: Provider,
    /// Secrets as they are mounted: `ca`, `other-ca`, `client`, `user`, `wrong-user`, `provider-ca`, `token`, `wrong-token`,
    /// `strange-token`.
    pub secrets: PathBuf,
    _broker: Broker,
    _folder: TempDir,
}

impl Secured {
    /// Starts it.
    ///
    /// # Errors
    /// If `openssl`, Java or Maven is missing, or it does not come up.
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [tls, mutual, sasl, oauth] = free_ports()?;
        let (keys, secrets) = (folder.path().join("keys"), folder.path().join("secrets"));
        fs::create_dir(&keys)?;
        let [authority, other] = [authority(&keys, "ca")?, authority(&keys, "other-ca")?];
        signed(&keys, "server", &authority)?;
        signed(&keys, "client", &authority)?;
        write(&secrets, "ca", &[("ca.crt", &fs::read_to_string(authority)?)])?;
        write(&secrets, "other-ca", &[("ca.crt", &fs::read_to_string(other)?)])?;
        let [certificate, key] = ["client.crt", "client.key"].map(|name| fs::read_to_string(keys.join(name)));
        write(&secrets, "client", &[("tls.crt", &certificate?), ("tls.key", &key?)])?;
        write(&secrets, "user", &[("username", USER), ("password", PASSWORD)])?;
        write(&secrets, "wrong-user", &[("username", USER), ("password", "wrong")])?;
        write(&secrets, "provider-ca", &[("ca.crt", AUTHORITY)])?;
        let clients =
            [("token", CLIENT), ("wrong-token", (CLIENT.0, "wrong")), ("strange-token", (STRANGER, CLIENT.1))];
        for (name, (id, secret)) in clients {
            write(&secrets, name, &[("clientId", id), ("clientSecret", secret)])?;
        }
        let provider = Provider::start(TOKEN_LIFETIME, &keys.join("jwks.json"))?;
        let ports = [tls, mutual, sasl, oauth];
        let broker = Broker::start_with(|data, inner| prepare(data, &keys, inner, ports))?;
        let [tls, mutual, sasl, oauth] = ports.map(|port| format!("localhost:{port}"));
        Ok(Self { tls, mutual, sasl, oauth, provider, secrets, _broker: broker, _folder: folder })
    }
}

fn write(secrets: &Path, name: &str, values: &[(&str, &str)]) -> Result<()> {
    fs::create_dir_all(secrets.join(name))?;
    for (key, value) in values {
        fs::write(secrets.join(name).join(key), value)?;
    }
    Ok(())
}

/// Settings of the listeners, and the users as the broker keeps them.
fn prepare(
    data: &Path,
    keys: &Path,
    [plain, controller]: [u16; 2],
    [tls, mutual, sasl, oauth]: [u16; 4],
) -> Result<()> {
    let server = data.join("server.pem");
    fs::write(&server, fs::read_to_string(keys.join("server.key"))? + &fs::read_to_string(keys.join("server.crt"))?)?;
    let modules = "org.apache.kafka.common.security";
    let jwks = format!("file://{}", keys.join("jwks.json").display());
    fs::write(data.join("java"), format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={jwks}\n"))?;
    let settings = format!(
        "listeners=PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},TLS://127.0.0.1:{tls},\\
MUTUAL://127.0.0.1:{mutual},SASL://127.0.0.1:{sasl},OAUTH://127.0.0.1:{oauth}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},TLS://localhost:{tls},MUTUAL://localhost:{mutual},\\
SASL://localhost:{sasl},OAUTH://localhost:{oauth}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,TLS:SSL,MUTUAL:SSL,SASL:SASL_SSL,OAUTH:SASL_SSL
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
listener.name.mutual.ssl.client.auth=required
listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.sasl.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.connections.max.reauth.ms=60000
listener.name.oauth.oauthbearer.sasl.jaas.config={modules}.oauthbearer.OAuthBearerLoginModule required;
listener.name.oauth.oauthbearer.sasl.server.callback.handler.class={modules}.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwks.endpoint.url={jwks}
sasl.oauthbearer.expected.audience={AUDIENCE}
sasl.oauthbearer.expected.issuer=tests
sasl.oauthbearer.clock.skew.seconds=1
",
        server.display(),
        keys.join("ca.crt").display()
    );
    fs::write(data.join("more.properties"), settings)?;
    let user = |mechanism| format!("{mechanism}=[name={USER},password=\"{PASSWORD}\"]\n");
    fs::write(data.join("scram"), user("SCRAM-SHA-256") + &user("SCRAM-SHA-512"))?;
    Ok(())
}

/// An authority of that name; its certificate.
fn authority(keys: &Path, name: &str) -> Result<PathBuf> {
    let certificate = keys.join(format!("{name}.crt"));
    let subject = format!("/CN={name}");
    let mut command =
        openssl(keys, &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject]);
    command.arg("-keyout").arg(keys.join(format!("{name}.key"))).arg("-out").arg(&certificate);
    pass(command)?;
    Ok(certificate)
}

/// A key, and a certificate for `localhost` that the authority signed.
fn signed(keys: &Path, name: &str, authority: &Path) -> Result<()> {
    let subject = format!("/CN={name}");
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject];
    let mut command = openssl(keys, &request);
    command.args([
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ]);
    command.arg("-CA").arg(authority).arg("-CAkey").arg(authority.with_extension("key"));
    command.arg("-keyout").arg(keys.join(format!("{name}.key"))).arg("-out").arg(keys.join(format!("{name}.crt")));
    pass(command)
}

fn openssl(keys: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    command.current_dir(keys).args(arguments);
    command
}

fn pass(command: Command) -> Result<()> {
    let ended = run(command, PATIENCE)?;
    ensure!(ended.status.success(), "openssl: {}", ended.stderr);
    Ok(())
}
