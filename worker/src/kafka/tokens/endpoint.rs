//! The identity provider's side: a token for credentials, by RFC 6749, section 4.4. Bounded in time and size; sent nowhere
//! else by a redirect.

use std::{ffi::CString, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use crds::spec::{Oauth, Tls};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use ureq::{
    Agent,
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::{Token, Trouble};
use crate::{cli::Mistake, clock, kafka::connection::c_string, secrets::Secrets};

/// How long the endpoint may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Largest answer: tokens with many groups have some ten kilobytes, and brokers take no larger ones.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// How much of what an endpoint says about a refusal is passed on.
const REASON_CHARACTERS_MAX: usize = 200;

/// Seconds that a token counts of which nobody says how long it does.
const LIFETIME_UNSAID: f64 = 300.0;

/// Longest lifetime that is believed: a token is fetched once a day at least.
const LIFETIME_MAX: f64 = 86_400.0;

/// What is encoded in a form: everything that is not unreserved (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where tokens come from, and for which credentials.
pub(super) struct Endpoint {
    url: String,
    /// What people are told: a query may hold what is nobody's business.
    shown: String,
    form: Vec<(&'static str, String)>,
    extensions: Vec<CString>,
    /// The secret's name. It is read anew each time: secrets are replaced while we run.
    credentials: String,
    secrets: Secrets,
    agent: Agent,
}

/// What an endpoint gives, section 5.1. Some write the seconds as text.
#[derive(Deserialize)]
struct Given {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

/// How it refuses, section 5.2.
#[derive(Default, Deserialize)]
struct Refusal {
    error: Option<String>,
    error_description: Option<String>,
}

impl Endpoint {
    pub(super) fn of(oauth: &Oauth, credentials: &str, tls: Option<&Tls>, secrets: &Secrets) -> Result<Self, Mistake> {
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        form.extend(oauth.scope.clone().map(|scope| ("scope", scope)));
        form.extend(oauth.audience.clone().map(|audience| ("audience", audience)));
        let authority = oauth.ca_secret.as_ref().or_else(|| tls.and_then(|tls| tls.ca_secret.as_ref()));
        let roots = authority.map_or(Ok(RootCerts::WebPki), |secret| authorities(secret, secrets))?;
        let config = Agent::config_builder().timeout_global(Some(ANSWER_TIME_MAX)).max_redirects(0);
        let config = config.http_status_as_error(false).tls_config(TlsConfig::builder().root_certs(roots).build());
        let endpoint = Self {
            url: oauth.token_url.clone(),
            shown: oauth.token_url.split('?').next().unwrap_or_default().to_owned(),
            form,
            extensions: oauth
                .extensions
                .iter()
                .flat_map(|(name, value)| [name, value])
                .filter_map(|it| c_string(it))
                .collect(),
            credentials: credentials.to_owned(),
            secrets: secrets.clone(),
            agent: config.build().new_agent(),
        };
        endpoint.credentials().map(|_| endpoint)
    }

    fn credentials(&self) -> Result<(String, String), Mistake> {
        let value = |key| self.secrets.value(&self.credentials, key);
        Ok((value("clientId")?, value("clientSecret")?))
    }

    /// Asks for a token.
    pub(super) fn ask(&self) -> Result<Token, Trouble> {
        let (id, secret) = self.credentials().map_err(|missing| Trouble::Refused(missing.0))?;
        // Section 2.3.1: both are encoded as in a form before they are put together.
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{}", encoded(&id), encoded(&secret))));
        let asked = clock::now();
        let request = self.agent.post(&self.url).header("authorization", basic).header("accept", "application/json");
        let form = self.form.iter().map(|(name, value)| (*name, value.as_str()));
        let mut answer = request.send_form(form).map_err(|error| self.unanswered(&error))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let body = body.map_err(|error| self.unanswered(&error))?;
        match status.as_u16() {
            200 => self.given(&body, &id, asked),
            408 | 429 | 500.. => Err(Trouble::Away(format!("the token endpoint {} answers {status}", self.shown))),
            _ => Err(self.refused(&format!("{status}{}", reason(&body, &secret)))),
        }
    }

    fn given(&self, body: &str, id: &str, asked: i64) -> Result<Token, Trouble> {
        let strange = || self.refused("it answers 200, but no token that could be shown to brokers");
        let given: Given = serde_json::from_str(body).map_err(|_| strange())?;
        let is_bearer = given.token_type.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
        let is_token = !given.access_token.is_empty() && given.access_token.bytes().all(|byte| byte.is_ascii_graphic());
        let seconds = given.expires_in.as_ref().map_or(Some(LIFETIME_UNSAID), seconds).filter(|left| *left > 0.0);
        let (Some(seconds), true) = (seconds, is_bearer && is_token) else { return Err(strange()) };
        let expires_ms = asked + (seconds.min(LIFETIME_MAX) * 1000.0) as i64;
        let (value, principal) = (c_string(&given.access_token), c_string(id));
        let (Some(value), Some(principal)) = (value, principal) else { return Err(strange()) };
        Ok(Token { value, principal, expires_ms, extensions: self.extensions.clone() })
    }

    fn refused(&self, why: &str) -> Trouble {
        Trouble::Refused(format!("the token endpoint {} does not let us in: {why}", self.shown))
    }

    /// A certificate that nobody known has signed stays so; everything else may pass.
    fn unanswered(&self, error: &ureq::Error) -> Trouble {
        let inner = match error {
            ureq::Error::Io(error) => error.get_ref().map(ToString::to_string),
            ureq::Error::Rustls(error) => Some(error.to_string()),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => return self.refused("the address is no address"),
            _ => None,
        };
        match inner.filter(|inner| inner.contains("certificate")) {
            Some(inner) => self.refused(&inner),
            None => Trouble::Away(format!("the token endpoint {} does not answer: {error}", self.shown)),
        }
    }
}

fn authorities(secret: &str, secrets: &Secrets) -> Result<RootCerts, Mistake> {
    let pem = secrets.value(secret, "ca.crt")?;
    let mut found = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(Mistake(format!("secret {secret}: `ca.crt` is no PEM: {error}"))),
        }
    }
    if found.is_empty() {
        return Err(Mistake(format!("secret {secret}: `ca.crt` holds no certificate")));
    }
    Ok(RootCerts::Specific(Arc::new(found)))
}

/// What the endpoint says about it: not the secret, should it repeat it, and nothing that a terminal would obey.
fn reason(body: &str, secret: &str) -> String {
    let refusal: Refusal = serde_json::from_str(body).unwrap_or_default();
    let told: Vec<String> = [refusal.error, refusal.error_description].into_iter().flatten().collect();
    let told = told.join(": ").replace(secret, "…");
    let told: String = told.chars().filter(|letter| !letter.is_control()).take(REASON_CHARACTERS_MAX).collect();
    if told.is_empty() { told } else { format!(" ({told})") }
}

fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

fn seconds(told: &Value) -> Option<f64> {
    told.as_f64().or_else(|| told.as_str()?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_refusal_holds_no_secret() {
        let body = r#"{"error": "invalid_client", "error_description": "s3cret\u001b is wrong"}"#;
        assert_eq!(reason(body, "s3cret"), " (invalid_client: … is wrong)");
        assert_eq!(reason("<html>", "s3cret"), "");
        assert_eq!(encoded("a b;c=1é").to_string(), "a%20b%3Bc%3D1%C3%A9");
        assert_eq!([seconds(&serde_json::json!("20")), seconds(&serde_json::json!(20))], [Some(20.0), Some(20.0)]);
    }
}
