//! Kafka clusters: brokers, and how they know us.

use crate::{
    problem::{Report, field},
    spec::{Oauth, Sasl, SaslMechanism},
};

/// Checks a cluster's brokers, and what is said of authentication.
pub(super) fn check((brokers, sasl): (&[String], Option<&Sasl>), path: &str, report: &mut Report) {
    self::brokers(brokers, &field(path, "bootstrapServers"), report);
    if let Some(sasl) = sasl {
        authentication(sasl, &field(path, "sasl"), report);
    }
}

fn brokers(brokers: &[String], path: &str, report: &mut Report) {
    for (at, broker) in brokers.iter().enumerate() {
        let port =
            broker.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0)
            || broker.contains(|letter: char| letter.is_whitespace() || letter == '/' || letter == ',')
        {
            let problem = report.problem(&format!("{path}[{at}]"), "is no broker");
            report.push(problem.accepts("host:port, such as kafka-bootstrap:9092"));
        }
    }
}

fn authentication(sasl: &Sasl, path: &str, report: &mut Report) {
    let oauth_path = field(path, "oauth");
    match (&sasl.oauth, sasl.mechanism) {
        (Some(oauth), SaslMechanism::OauthBearer) => oauth_fits(oauth, &oauth_path, report),
        (None, SaslMechanism::OauthBearer) if !report.lost(&oauth_path) => {
            let problem = report.problem(path, "OAUTHBEARER needs to know where tokens come from");
            report.push(problem.accepts("oauth: {tokenUrl: \"https://…\"}"));
        }
        (Some(_), _) => {
            let problem = report.problem(&oauth_path, "belongs to another mechanism");
            report.push(problem.accepts("mechanism: OAUTHBEARER, or no oauth"));
        }
        (None, _) => {}
    }
}

fn oauth_fits(oauth: &Oauth, path: &str, report: &mut Report) {
    address(oauth, &field(path, "tokenUrl"), report);
    for (name, value) in &oauth.extensions {
        let path = field(&field(path, "extensions"), name);
        // RFC 7628, section 3.1; `auth` is the token itself.
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic()) && name != "auth";
        let is_value = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !is_name || !is_value {
            let problem = report.problem(&path, "is no SASL extension");
            report.push(problem.accepts("a name of letters other than auth, and a value of printable ASCII"));
        }
    }
}

/// Whoever asks for a token sends the client's secret along.
fn address(oauth: &Oauth, path: &str, report: &mut Report) {
    let url = oauth.token_url.as_str();
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_address = !authority.is_empty() && url.bytes().all(|byte| byte.is_ascii_graphic()) && !rest.contains('#');
    if !is_address || authority.contains('@') {
        let problem = report.problem(path, "is no address of a token endpoint");
        return report.push(problem.accepts("https://host/path, without a user or a fragment"));
    }
    if url.starts_with("http://") && !is_loopback(authority) && !oauth.allow_plain_http {
        let problem = report.problem(path, "the client's secret would travel in the clear");
        report.push(problem.accepts("https://…, or allowPlainHttp: true beside it"));
    }
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
