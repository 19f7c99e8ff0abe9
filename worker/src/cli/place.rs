//! Where a pipeline is: behind an address, in a data directory that no process has, or in the topics of a fleet.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use ureq::{
    http::{HeaderValue, Request, header::AUTHORIZATION},
    middleware::MiddlewareNext,
};

use super::Mistake;
#[cfg(feature = "fleet")]
use crate::kafka::tailing::Fleet;
use crate::run::{Owner, Unowned, visit};

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// The variable whose value is sent as a bearer token.
const TOKEN: &str = "CLICKSTREAM_TOKEN";

/// Largest answer that is read: a replay tells about a hundred records, a page of letters holds a thousand of 64 kB.
const ANSWER_BYTES_MAX: u64 = 128 << 20;

/// Arguments that say where.
#[derive(clap::Args, Clone, Debug)]
pub struct Where {
    /// The data directory of a pipeline; if a process runs on it, that process is asked.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub data_dir: Option<PathBuf>,
    /// The pipeline that answers here.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// The topics of a fleet: of the Kafka that this manifest names, with its secrets.
    #[cfg(feature = "fleet")]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "url"])]
    pub manifest: Option<PathBuf>,
}

/// A pipeline.
pub enum Place {
    /// A process that answers.
    Server(Client),
    /// A directory that is open for us.
    Directory(Box<Unowned>),
    /// A fleet's topics.
    #[cfg(feature = "fleet")]
    Fleet(Box<Fleet>),
}

impl Where {
    /// Finds it.
    ///
    /// # Errors
    /// Where there is none.
    pub fn find(&self) -> anyhow::Result<Place> {
        #[cfg(feature = "fleet")]
        if let Some(manifest) = &self.manifest {
            return Ok(Place::Fleet(Box::new(fleet(manifest)?)));
        }
        let Some(directory) = &self.data_dir else { return Ok(Place::Server(Client::new(&self.url))) };
        Ok(match visit(directory)? {
            Owner::Process(url) => Place::Server(Client::new(&url)),
            Owner::Nobody(unowned) => Place::Directory(unowned),
        })
    }
}

#[cfg(feature = "fleet")]
fn fleet(file: &std::path::Path) -> anyhow::Result<Fleet> {
    let checked = super::manifest::load(file, &[])?;
    let cluster =
        crate::kafka::client::Cluster::of(&checked.manifest.spec, &crate::secrets::Secrets::from_environment())?;
    let names = crate::kafka::names::Names::new(&checked.manifest.name);
    let catalogue = crate::kafka::catalogue::read(&cluster, &names)?;
    // What is not set up yet has no topic either.
    let view = crate::kafka::catalogue::View::new(&catalogue, &checked);
    let streams = std::sync::Arc::new(view.map(|view| view.streams).unwrap_or_default());
    Ok(Fleet { cluster, names, plan: std::sync::Arc::new(checked.plan), streams })
}

/// Asks the API of a running pipeline.
#[derive(Clone)]
pub struct Client {
    url: String,
}

/// An error as the API writes it.
#[derive(Deserialize)]
struct Problem {
    error: String,
}

impl Client {
    fn new(url: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned() }
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// A [`Mistake`] where the request is refused; else when nobody answers.
    pub fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<T> {
        let mut request = agent(Some(ANSWER_TIME_MAX)).get(format!("{}{path}", self.url));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        self.read(request.call())
    }

    /// Sends JSON and asks for JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        let body = serde_json::to_vec(body).context("failed to write the request")?;
        let request = agent(Some(ANSWER_TIME_MAX)).post(format!("{}{path}", self.url));
        self.read(request.header("content-type", "application/json").send(&body))
    }

    /// Calls `each` with the data of every server-sent event, until the stream ends or it returns false.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn events(
        &self,
        path: &str,
        query: &[(&str, String)],
        mut each: impl FnMut(&str) -> bool,
    ) -> anyhow::Result<()> {
        let mut request = agent(None).get(format!("{}{path}", self.url));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        let mut response = request.call().with_context(|| self.nobody())?;
        if !response.status().is_success() {
            return self.read(Ok(response));
        }
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line = line.with_context(|| format!("{} stopped answering", self.url))?;
            if let Some(data) = line.strip_prefix("data:")
                && !each(data.trim_start())
            {
                break;
            }
        }
        Ok(())
    }

    fn nobody(&self) -> String {
        format!(
            "no pipeline answers at {}: start one with `clickstream run`, or read a data directory with --data-dir",
            self.url
        )
    }

    fn read<T: DeserializeOwned>(
        &self,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> anyhow::Result<T> {
        let mut response = sent.with_context(|| self.nobody())?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.with_context(|| format!("failed to read the answer of {}", self.url))?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .with_context(|| format!("{} answers what this version does not understand", self.url));
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if status.is_client_error() => bail!(Mistake(problem.error)),
            Ok(problem) => bail!("{}: {}", self.url, problem.error),
            Err(_) => bail!("{} answers with status {status}", self.url),
        }
    }
}

/// A client that sends the token of the environment, if there is one, and takes every status for an answer.
pub fn agent(timeout: Option<Duration>) -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(timeout);
    let token = std::env::var(TOKEN).ok().and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let with_token = move |mut request: Request<ureq::SendBody>, next: MiddlewareNext| {
        request.headers_mut().extend(token.clone().map(|token| (AUTHORIZATION, token)));
        next.handle(request)
    };
    config.middleware(with_token).build().new_agent()
}
