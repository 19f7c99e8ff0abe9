//! TLS of a double: a certificate for loopback by an authority of its own, both made for these tests (valid until 2126).

use std::{io, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The authority that clients have to trust.
pub const AUTHORITY: &str = include_str!("certificates/ca.crt");

/// What the servers of a double show.
pub(crate) fn config() -> io::Result<Arc<ServerConfig>> {
    let failed = |error: &dyn std::fmt::Display| io::Error::other(format!("the certificates of the tests: {error}"));
    let certificate = CertificateDer::from_pem_slice(include_bytes!("certificates/server.crt"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("certificates/server.key"));
    let (certificate, key) = (certificate.map_err(|error| failed(&error))?, key.map_err(|error| failed(&error))?);
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| failed(&error))?;
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key);
    config.map(Arc::new).map_err(|error| failed(&error))
}
