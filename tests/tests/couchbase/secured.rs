//! TLS with an authority of one's own: the secret's `ca.crt`. The vendor's mock speaks none, so that the double is alone here.

use tests::{
    changes::prove,
    couchbase::{AUTHORITY, Double},
};

use super::{
    reading::{rows_of, runtime},
    witness::Witness,
};

#[test]
fn a_cluster_that_speaks_tls_only_is_written_to() {
    let witness = Witness::of(Double::start_secured(2).unwrap());
    std::fs::write(witness.secrets.path().join("server/ca.crt"), AUTHORITY).unwrap();
    prove(&witness.results(), "couchbase", witness.secrets.path(), &|| rows_of(&witness));
}

#[test]
fn an_authority_that_did_not_sign_is_told_and_so_is_one_for_the_clear() {
    let witness = Witness::of(Double::start_secured(1).unwrap());
    let file = witness.secrets.path().join("server/ca.crt");
    let results = witness.results();
    // The server's certificate in place of its authority's: it signed nothing.
    std::fs::write(&file, include_str!("../../src/couchbase/certificates/server.crt")).unwrap();
    let refused = runtime().block_on(results.connector("couchbase", witness.secrets.path()).connect());
    let told = refused.err().map(|error| format!("{error:#}")).unwrap();
    assert!(told.contains("lets nobody in") && told.contains("ertificate"), "{told}");

    let clear = witness.url.replace("couchbases://", "couchbase://");
    std::fs::write(witness.secrets.path().join("server/connectionString"), clear).unwrap();
    let targets = results.reader("couchbase").targets;
    let secrets = worker::secrets::Secrets::in_directory(witness.secrets.path());
    let spec = results.sink("couchbase").couchbase.clone().unwrap();
    let mistake = worker::sink::couchbase::Connector::new(&spec, &targets, &secrets).err().unwrap().to_string();
    assert!(mistake.contains("`ca.crt` is there") && mistake.contains("couchbases://"), "{mistake}");
}
