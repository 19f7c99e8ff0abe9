//! Asks a cluster to be let in, and says why not. The crate's own `connect` tries for ever on a refused port, a wrong
//! password or a failed handshake, and tells its log only.

use std::{error::Error as _, sync::Arc, time::Duration};

use anyhow::anyhow;
use couchbase_connstr::{ConnSpec, parse, resolve};
use couchbase_core::{
    address::Address,
    memdx::{
        auth_mechanism::AuthMechanism,
        client::Client,
        connection::{ConnectOptions, ConnectionType, TcpConnection, TlsConnection},
        dispatcher::{Dispatcher as _, DispatcherOptions},
        error::{Error, ErrorKind, ServerErrorKind},
        op_auth_saslauto::{Credentials, SASLAuthAutoOptions},
        op_bootstrap::{BootstrapOptions, OpBootstrap},
        ops_core::OpsCore,
        status::Status,
    },
};
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer};
use tokio::{sync::oneshot, time::Instant};

use super::super::limits::COUCHBASE_KNOCK;

/// Where, and who asks. Never shown.
pub(super) struct Door {
    pub address: String,
    pub username: String,
    pub password: String,
    spec: ConnSpec,
    tls: Option<Arc<ClientConfig>>,
}

impl Door {
    /// # Errors
    /// What is wrong with the address or the certificates.
    pub(super) fn new(
        address: String,
        username: String,
        password: String,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Self, String> {
        if !["couchbase://", "couchbases://"].iter().any(|scheme| address.starts_with(scheme)) {
            return Err("`connectionString` is no address like couchbase://host1,host2 or couchbases://host".into());
        }
        let spec = parse(&address).map_err(|_| "`connectionString` names a port that is none".to_owned())?;
        let tls = if authorities.is_empty() { None } else { Some(trusting(authorities)?) };
        Ok(Self { address, username, password, spec, tls })
    }

    /// Returns once one of the hosts has let us in.
    ///
    /// # Errors
    /// What each of them said instead.
    pub(super) async fn knock(&self) -> anyhow::Result<()> {
        let resolved = resolve(self.spec.clone()).await;
        let resolved = resolved.map_err(|error| anyhow!("the secret's connectionString cannot be used: {error}"))?;
        let mut told = Vec::new();
        for host in resolved.memd_hosts {
            let shown = format!("{}:{}", host.host, host.port);
            let address = Address { host: host.host, port: host.port };
            let asked = tokio::time::timeout(COUCHBASE_KNOCK, self.ask(address, resolved.use_ssl)).await;
            match asked {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => told.push(format!("{shown} {}", said(&error))),
                Err(_) => told.push(format!("{shown} does not answer within {} s", COUCHBASE_KNOCK.as_secs())),
            }
        }
        Err(anyhow!("Couchbase lets nobody in: {}", told.join("; ")))
    }

    async fn ask(&self, address: Address, wants_tls: bool) -> Result<(), Error> {
        let deadline = Instant::now() + COUCHBASE_KNOCK;
        let options = ConnectOptions { deadline, tcp_keep_alive_time: Duration::from_secs(60) };
        let connection = match (&self.tls, wants_tls) {
            (Some(tls), _) => ConnectionType::Tls(TlsConnection::connect(address, Arc::clone(tls), options).await?),
            (None, false) => ConnectionType::Tcp(TcpConnection::connect(address, options).await?),
            // The public authorities are the crate's to know: that somebody listens has to do.
            (None, true) => return TcpConnection::connect(address, options).await.map(drop),
        };
        let client = Client::new(connection, dispatching());
        let mechanisms = if wants_tls {
            vec![AuthMechanism::Plain]
        } else {
            vec![AuthMechanism::ScramSha512, AuthMechanism::ScramSha256, AuthMechanism::ScramSha1]
        };
        let credentials = Credentials::UserPass { username: self.username.clone(), password: self.password.clone() };
        let options = BootstrapOptions {
            hello: None,
            get_error_map: None,
            auth: Some(SASLAuthAutoOptions { credentials, enabled_mechs: mechanisms }),
            select_bucket: None,
            deadline,
            get_cluster_config: None,
        };
        let asked = OpBootstrap::bootstrap(OpsCore {}, &client, options).await;
        // It was only a question; how it is hung up changes nothing.
        let _ = client.close().await;
        asked.map(drop)
    }
}

fn dispatching() -> DispatcherOptions {
    let (on_read_close_tx, _) = oneshot::channel();
    DispatcherOptions {
        unsolicited_packet_handler: Arc::new(|_| Box::pin(async {})),
        orphan_handler: None,
        on_read_close_tx,
        disable_decompression: true,
        id: "door".into(),
    }
}

fn trusting(authorities: &[CertificateDer<'static>]) -> Result<Arc<ClientConfig>, String> {
    let mut store = RootCertStore::empty();
    for authority in authorities {
        store.add(authority.clone()).map_err(|error| format!("`ca.crt` is no authority: {error}"))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("ring knows the versions of TLS");
    Ok(Arc::new(builder.with_root_certificates(store).with_no_client_auth()))
}

/// What a host said, as the end of a sentence.
fn said(error: &Error) -> String {
    if let ErrorKind::Server(server) = error.kind()
        && matches!(
            server.kind(),
            ServerErrorKind::UnknownStatus { status: Status::AuthError } | ServerErrorKind::Auth { .. }
        )
    {
        return "refuses the username and password of the secret".into();
    }
    match error.source() {
        Some(source) => format!("cannot be used: {error}: {source}"),
        None => format!("cannot be used: {error}"),
    }
}
