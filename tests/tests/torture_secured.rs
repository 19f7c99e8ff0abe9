//! Every way into a broker, taken by every role: TLS, certificates on both sides, PLAIN, SCRAM and tokens. Whoever is refused
//! says why, once, and ends with the exit code of a mistake. Tokens end while roles run: they are renewed, and while nobody
//! gives any, roles wait.
//!
//! Needs the `openssl` program, Java and Maven.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, path::PathBuf, process::Command, time::Instant};

use tests::{
    binary::{free_address, run},
    roles::{PATIENCE, Role, role, wait},
    secured::{Secured, TOKEN_LIFETIME},
};

const EVENTS: u64 = 2_000;

/// Tokens that each role is given while [`World::renews_tokens`] looks on, at least.
const TOKENS: u64 = 3;

/// A way in: the name of its pipeline, the brokers, what the manifest says of security.
type Way<'a> = (&'a str, &'a str, &'a str);

struct World {
    secured: Secured,
    directory: tempfile::TempDir,
}

impl World {
    fn manifest(&self, (name, brokers, security): Way<'_>, pace: &str) -> PathBuf {
        let text = format!(
            "apiVersion: clickstream.dev/v1alpha1
kind: ClickstreamPipeline
metadata: {{name: {name}}}
spec:
  kafka: {{bootstrapServers: ['{brokers}'], {security}}}
  topics:
  - {{name: {name}-views, partitions: 2}}
  ingest:
  - name: made
    topic: {name}-views
    synthetic: {{count: {EVENTS}, {pace}fields: {{user: {{choice: [a, b, c]}}}}}}
  streams:
  - name: views
    topics: [{name}-views]
    key: user
    fields:
    - {{name: user, type: string}}
  tables:
  - {{name: totals, from: views, select: {{views: count()}}}}
  sinks:
  - {{name: lines, tables: [totals], console: {{format: json}}}}
"
        );
        let file = self.directory.path().join(format!("{name}.yaml"));
        fs::write(&file, text).unwrap();
        file
    }

    fn role(&self, name: &str, manifest: &std::path::Path, more: &[&str]) -> Command {
        let mut command = role(name, manifest, more).unwrap();
        command.env("CLICKSTREAM_SECRETS", &self.secured.secrets);
        command
    }

    /// From set-up to the last row, by every role.
    fn goes_in(&self, way: Way<'_>) {
        let (begun, manifest) = (Instant::now(), self.manifest(way, ""));
        let ended = run(self.role("setup", &manifest, &[]), PATIENCE).unwrap();
        assert!(ended.status.success(), "{way:?}: {}{}", ended.stdout, ended.stderr);
        let page = free_address().unwrap();
        let start = |name: &str, more: &[&str]| Role::start_as(self.role(name, &manifest, more)).unwrap();
        let mut serve = start("serve", &["--listen", &page]);
        let mut process = start("process", &["--threads", "1"]);
        let mut sink = start("sink", &["--name", "lines"]);
        let ingest = start("ingest", &["--name", "made", "--until-done"]).running.wait(PATIENCE).unwrap();
        assert!(ingest.status.success(), "{way:?}: {}", ingest.stderr);
        let all = |figure: f64| figure == EVENTS as f64;
        serve.wait_for_figure("clickstream_table_events{outcome=\"counted\",table=\"totals\"}", all).unwrap();
        sink.wait_for_figure("clickstream_sink_records_total", |records| records >= 1.0).unwrap();
        [&mut process, &mut sink].into_iter().for_each(|role| role.wait_until_ready().unwrap());
        [sink, process, serve].into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
        println!("{}: {EVENTS} events in {:.1} s", way.0, begun.elapsed().as_secs_f64());
    }

    /// What a manifest says of tokens: the secret of the client, and that of the provider's authority.
    fn by_token(&self, secret: &str, authority: &str) -> String {
        let oauth = format!("{{tokenUrl: '{}', scope: kafka, caSecret: {authority}}}", self.secured.provider.url);
        format!("tls: {{caSecret: ca}}, sasl: {{mechanism: OAUTHBEARER, credentialsSecret: {secret}, oauth: {oauth}}}")
    }

    /// Roles outlive their tokens; where there are none for a while they wait, and go on.
    fn renews_tokens(&self, way: Way<'_>) {
        let manifest = self.manifest(way, "eventsPerSecond: 25, ");
        let ended = run(self.role("setup", &manifest, &[]), PATIENCE).unwrap();
        assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        let page = free_address().unwrap();
        let start = |name: &str, more: &[&str]| Role::start_as(self.role(name, &manifest, more)).unwrap();
        let mut serve = start("serve", &["--listen", &page]);
        let mut others = [
            start("process", &["--threads", "1"]),
            start("sink", &["--name", "lines"]),
            start("ingest", &["--name", "made"]),
        ];
        others.iter_mut().for_each(|role| role.wait_until_ready().unwrap());
        let (provider, begun, given) = (&self.secured.provider, Instant::now(), self.secured.provider.given());
        wait(
            "tokens for four roles",
            || provider.given() - given,
            |more| {
                assert!(others.iter().all(Role::is_ready), "{more} tokens on, a role is not ready");
                *more >= 4 * TOKENS
            },
        );
        assert!(begun.elapsed() > TOKEN_LIFETIME, "tokens are fetched more often than they need to be");
        provider.be_away(true);
        // A sink has nothing to read for a while, as far as it can see.
        [0, 2].into_iter().for_each(|role| others[role].wait_until_unready().unwrap());
        provider.be_away(false);
        let came_back = Instant::now();
        others.iter_mut().for_each(|role| role.wait_until_ready().unwrap());
        println!("{}: ready again {:.1} s after tokens were given again", way.0, came_back.elapsed().as_secs_f64());
        let all = |figure: f64| figure == EVENTS as f64;
        serve.wait_for_figure("clickstream_table_events{outcome=\"counted\",table=\"totals\"}", all).unwrap();
        others.into_iter().for_each(|role| drop(role.end_in_order().unwrap()));
        serve.end_in_order().unwrap();
        println!(
            "{}: {EVENTS} events, {} tokens, {:.1} s",
            way.0,
            provider.given() - given,
            begun.elapsed().as_secs_f64()
        );
    }

    /// Every role is refused with one message that says why.
    fn stays_out(&self, way: Way<'_>, because: &str) {
        let manifest = self.manifest(way, "");
        let health = ["--health-listen", "127.0.0.1:0"];
        let sink = ["--name", "lines", "--health-listen", "127.0.0.1:0"];
        let ingest = ["--name", "made", "--health-listen", "127.0.0.1:0"];
        let roles: [(&str, &[&str]); 4] = [("setup", &[]), ("process", &health), ("sink", &sink), ("ingest", &ingest)];
        for (name, more) in roles {
            let ended = run(self.role(name, &manifest, more), PATIENCE).unwrap();
            let told = ended.stderr;
            assert_eq!(ended.status.code(), Some(2), "{way:?}: {name}: {told}");
            assert!(told.contains("does not let us in") && told.contains(because), "{way:?}: {name}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
        println!("{}: refused", way.0);
    }
}

#[test]
fn every_role_takes_every_way_in_and_says_why_it_cannot() {
    let world = World { secured: Secured::start().unwrap(), directory: tempfile::tempdir().unwrap() };
    let Secured { tls, mutual, sasl, oauth, .. } = &world.secured;
    let by = |mechanism: &str, secret: &str| {
        format!("tls: {{caSecret: ca}}, sasl: {{mechanism: {mechanism}, credentialsSecret: {secret}}}")
    };
    world.goes_in(("by-tls", tls, "tls: {caSecret: ca}"));
    world.goes_in(("by-certificate", mutual, "tls: {caSecret: ca, certificateSecret: client}"));
    for (name, mechanism) in [("plain", "PLAIN"), ("scram-256", "SCRAM-SHA-256"), ("scram-512", "SCRAM-SHA-512")] {
        world.goes_in((name, sasl, &by(mechanism, "user")));
        world.stays_out((&format!("wrong-{name}"), sasl, &by(mechanism, "wrong-user")), "Authentication failed");
    }
    let tokens = |secret: &str, authority: &str| world.by_token(secret, authority);
    world.goes_in(("by-token", oauth, &tokens("token", "provider-ca")));
    world.stays_out(("wrong-token", oauth, &tokens("wrong-token", "provider-ca")), "(invalid_client: unknown client)");
    world.stays_out(("strange-token", oauth, &tokens("strange-token", "provider-ca")), "invalid_token");
    world.stays_out(("unknown-provider", oauth, &tokens("token", "ca")), "certificate");
    world.stays_out(("unknown-authority", tls, "tls: {caSecret: other-ca}"), "certificate verify failed");
    world.stays_out(("no-certificate", mutual, "tls: {caSecret: ca}"), "certificate");
}

#[test]
fn roles_outlive_their_tokens() {
    let world = World { secured: Secured::start().unwrap(), directory: tempfile::tempdir().unwrap() };
    world.renews_tokens(("renewed", &world.secured.oauth, &world.by_token("token", "provider-ca")));
}
