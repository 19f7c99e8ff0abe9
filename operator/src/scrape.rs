//! Asking a pipeline's pods how they are doing: one look at the pods, one request to each that is asked. No opinion.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use axum::http::StatusCode;
use bytes::Bytes;
use crds::status::LedgerStatus;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use serde_json::Value;

use crate::{
    desired::{HASH_ANNOTATION, HEALTH_PORT, PIPELINE_LABEL, SERVE_PORT},
    figures::{Figures, Processing, TopicDifference, Work},
    observed::Reading,
    waiting::{Waits, waits},
};

/// A pod answers within this, or what it knows is unknown. A reconcile has 60 s, and asks all pods at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// Of pods that are not ready so many are asked why: pods of one component say the same, mostly.
const ASKED_MAX: usize = 16;

/// No answer is longer: a ledger of 32 streams and 64 tables takes some 20 KB, 64 topics of 1024 partitions some 5 MB.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Where a pod of serve is asked: on its port of health, which asks nobody for a token; one that was made by an older operator
/// does not answer there, and is asked where its readers ask.
const SERVE_PORTS: [u16; 2] = [HEALTH_PORT, SERVE_PORT];

/// Asks pods.
#[derive(Clone)]
pub struct Scraper {
    http: Http<HttpConnector, Empty<Bytes>>,
}

impl Default for Scraper {
    fn default() -> Self {
        Self { http: Http::builder(TokioExecutor::new()).build_http() }
    }
}

impl Scraper {
    /// Everything that the pods of a pipeline say of it, whose spec has this hash. Who does not answer is unknown.
    pub async fn figures(&self, client: &Client, (namespace, pipeline): (&str, &str), hash: &str) -> Figures {
        let listed = match list(client, namespace, pipeline).await {
            Ok(listed) => listed,
            Err(error) => return Figures::unknown(&format!("failed to list pods: {error}")),
        };
        let pods = addresses(&listed);
        let mut figures = match pods.get("serve") {
            Some(serve) => self.served(serve).await,
            None => Figures::unknown("no pod of serve runs"),
        };
        figures.topics = self.topics(&listed, hash).await.map(|look| (hash.to_owned(), look));
        let asked = pods.iter().filter_map(|(component, addresses)| {
            let counters = Counters::of(component)?;
            Some(async move { (component.clone(), self.work(addresses, &counters).await) })
        });
        figures.work = join_all(asked).await.into_iter().collect();
        figures.waiting = self.waiting(&listed, jiff::Timestamp::now()).await;
        figures
    }

    /// Why pods are not ready, by component, each reason once and in order: the same pods give the same text.
    async fn waiting(&self, pods: &[Pod], now: jiff::Timestamp) -> BTreeMap<String, String> {
        let mut reasons: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut asked = Vec::new();
        for pod in pods {
            let Some(component) = component(pod) else { continue };
            match (waits(pod, now), address(pod)) {
                (Waits::For(why), _) => drop(reasons.entry(component).or_default().insert(why)),
                (Waits::Ask, Some(address)) if asked.len() < ASKED_MAX => {
                    asked.push(async move { (component, self.unready(&address).await) });
                }
                _ => {}
            }
        }
        for (component, why) in join_all(asked).await {
            reasons.entry(component).or_default().extend(why);
        }
        let told =
            |(component, why): (String, BTreeSet<String>)| (component, why.into_iter().collect::<Vec<_>>().join("; "));
        reasons.into_iter().map(told).filter(|(_, why)| !why.is_empty()).collect()
    }

    /// Why a pod is not ready, as it says itself; nothing where it is by now.
    async fn unready(&self, address: &str) -> Option<String> {
        match self.ask(address, HEALTH_PORT, "/readyz").await {
            Ok((status, _)) if status.is_success() => None,
            Ok((_, body)) => {
                let said: Option<Value> = serde_json::from_slice(&body).ok();
                let reason = said.as_ref().and_then(|said| said["reason"].as_str());
                Some(reason.unwrap_or("it says that it is not ready").to_owned())
            }
            // Which address does not answer is no news to those who read this.
            Err(_) => Some("it does not answer /readyz".into()),
        }
    }

    /// What the first of the serving pods that answers knows.
    async fn served(&self, addresses: &[String]) -> Figures {
        let mut figures = Figures::unknown("no pod of serve answers");
        for address in addresses {
            let (status, ledger) = futures_util::join!(
                self.json(address, SERVE_PORTS, "/api/v1/status"),
                self.json(address, SERVE_PORTS, "/api/v1/ledger")
            );
            match (status.and_then(|status| processing(&status)), ledger.and_then(|ledger| sums(&ledger))) {
                (Ok(processing), ledger) => {
                    figures.processing = Reading::Known(processing);
                    figures.ledger = ledger.map_or_else(Reading::Unknown, Reading::Known);
                    return figures;
                }
                (Err(why), _) => figures.processing = Reading::Unknown(why),
            }
        }
        figures
    }

    /// What the first pod of serve that has this very spec, and answers, found about the topics. Under another spec they should be
    /// otherwise.
    async fn topics(&self, pods: &[Pod], hash: &str) -> Option<Reading<Vec<TopicDifference>>> {
        let serves = |pod: &&Pod| component(pod).as_deref() == Some("serve") && spec_hash(pod) == Some(hash);
        for address in pods.iter().filter(serves).filter_map(address) {
            // One that was made by an older operator does not look.
            if let Ok(body) = self.get(&address, HEALTH_PORT, "/api/v1/topics/differences").await
                && let Ok(look) = serde_json::from_slice::<TopicsLook>(&body)
            {
                return Some(match look {
                    TopicsLook::Differences(differences) => Reading::Known(differences),
                    TopicsLook::Unknown(why) => Reading::Unknown(why),
                });
            }
        }
        None
    }

    /// What all pods of a component did together: one that does not answer may have done, or hold, any number.
    async fn work(&self, addresses: &[String], counters: &Counters) -> Reading<Work> {
        let asked = addresses.iter().map(|address| self.get(address, HEALTH_PORT, "/metrics"));
        let mut work = Work { is_complete: true, ..Work::default() };
        for (address, answer) in addresses.iter().zip(join_all(asked).await) {
            let told = answer.and_then(|text| counters.add(address, &String::from_utf8_lossy(&text), &mut work));
            if let Err(why) = told {
                return Reading::Unknown(why);
            }
        }
        Reading::Known(work)
    }

    /// What the first of the ports says that knows the path.
    async fn json(&self, address: &str, [port, older]: [u16; 2], path: &str) -> Result<Value, String> {
        let body = match self.ask(address, port, path).await? {
            (StatusCode::NOT_FOUND, _) => self.get(address, older, path).await?,
            (status, body) if status.is_success() => body,
            (status, _) => return Err(format!("{address}:{port}{path} answers {status}")),
        };
        serde_json::from_slice(&body).map_err(|error| format!("{address}{path} answers no JSON: {error}"))
    }

    async fn get(&self, address: &str, port: u16, path: &str) -> Result<Bytes, String> {
        match self.ask(address, port, path).await? {
            (status, body) if status.is_success() => Ok(body),
            (status, _) => Err(format!("{address}:{port}{path} answers {status}")),
        }
    }

    async fn ask(&self, address: &str, port: u16, path: &str) -> Result<(StatusCode, Bytes), String> {
        let place = place(address, port)?;
        let uri = format!("http://{place}{path}").parse().map_err(|error| format!("{place}{path}: {error}"))?;
        let asked = async {
            let answer = self.http.get(uri).await.map_err(|error| format!("{place} does not answer: {error}"))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| format!("{place}{path}: {error}"))?;
            Ok((status, body.to_bytes()))
        };
        let answer = tokio::time::timeout(ANSWER_TIME_MAX, asked).await;
        answer.unwrap_or_else(|_| Err(format!("{place} did not answer in {} s", ANSWER_TIME_MAX.as_secs())))
    }
}

/// What `GET /api/v1/topics/differences` says.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
enum TopicsLook {
    Differences(Vec<TopicDifference>),
    Unknown(String),
}

/// The figures by which a pod tells what it does.
struct Counters {
    done: String,
    waits: String,
    is_complete: Option<String>,
}

impl Counters {
    /// Those of an ingester or a sink.
    fn of(component: &str) -> Option<Self> {
        if let Some(ingester) = component.strip_prefix("ingest-") {
            let of = |name: &str| format!("{name}{{ingester=\"{ingester}\"}}");
            return Some(Self {
                done: of("clickstream_ingest_events_total"),
                waits: of("clickstream_ingest_lag_events"),
                is_complete: Some(of("clickstream_ingest_complete")),
            });
        }
        component.starts_with("sink-").then(|| Self {
            done: "clickstream_sink_records_total".into(),
            waits: "clickstream_sink_lag_records".into(),
            is_complete: None,
        })
    }

    /// Adds what a pod says.
    fn add(&self, address: &str, text: &str, work: &mut Work) -> Result<(), String> {
        work.done.insert(address.to_owned(), metric(text, &self.done)?);
        match metric(text, &self.waits) {
            Ok(waits) => work.waits = Some(work.waits.unwrap_or_default() + waits),
            // Most ingesters do not know what there will be; every sink does.
            Err(_) if self.is_complete.is_some() => {}
            Err(why) => return Err(why),
        }
        let complete = self.is_complete.as_ref().and_then(|name| metric(text, name).ok());
        work.is_complete &= complete == Some(1);
        Ok(())
    }
}

fn place(address: &str, port: u16) -> Result<SocketAddr, String> {
    let address = address.parse().map_err(|_| format!("{address} is no address"))?;
    Ok(SocketAddr::new(address, port))
}

/// All pods of a pipeline.
async fn list(client: &Client, namespace: &str, pipeline: &str) -> Result<Vec<Pod>, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(&format!("{PIPELINE_LABEL}={pipeline}"));
    Ok(pods.list(&params).await?.items)
}

fn component(pod: &Pod) -> Option<String> {
    pod.metadata.labels.as_ref()?.get("app.kubernetes.io/component").cloned()
}

/// The spec that a pod was started with.
fn spec_hash(pod: &Pod) -> Option<&str> {
    pod.metadata.annotations.as_ref()?.get(HASH_ANNOTATION).map(String::as_str)
}

/// Where a pod that runs can be asked.
fn address(pod: &Pod) -> Option<String> {
    pod.status.as_ref().filter(|status| status.phase.as_deref() == Some("Running"))?.pod_ip.clone()
}

/// Addresses of the pods that run, by component.
fn addresses(pods: &[Pod]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (component, address) in pods.iter().filter_map(|pod| Some((component(pod)?, address(pod)?))) {
        found.entry(component).or_default().push(address);
    }
    found
}

/// What `GET /api/v1/status` says of processing.
fn processing(status: &Value) -> Result<Processing, String> {
    if status["state"] != "running" {
        return Err("serve does not know yet how far processing is".into());
    }
    let unknown = || "serve answers without positions".to_owned();
    let mut lag_of = BTreeMap::new();
    for partition in status["partitions"].as_array().ok_or_else(unknown)? {
        let topic = partition["topic"].as_str().ok_or_else(unknown)?;
        let number = |name: &str| partition[name].as_u64().ok_or_else(unknown);
        *lag_of.entry(topic.to_owned()).or_default() += number("end")?.saturating_sub(number("position")?);
    }
    let processed = status["events"].as_u64().ok_or_else(unknown)?;
    Ok(Processing { processed, lag: lag_of.values().sum(), lag_of })
}

/// What `GET /api/v1/ledger` says, all streams together.
fn sums(ledger: &Value) -> Result<LedgerStatus, String> {
    let streams = ledger["streams"].as_array().ok_or("serve answers without a ledger")?;
    let sum = |name: &str| streams.iter().filter_map(|stream| stream[name].as_i64()).sum();
    Ok(LedgerStatus {
        read: sum("read"),
        accepted: sum("accepted"),
        duplicate: sum("duplicate"),
        invalid: sum("invalid"),
        expired: sum("expired"),
        unaccounted: ledger["unaccounted"].as_i64().ok_or("serve answers without a ledger")?,
    })
}

/// A figure in Prometheus' text, by its name with all its labels.
fn metric(text: &str, name: &str) -> Result<u64, String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.and_then(|value| value.trim().parse::<f64>().ok()).filter(|value| *value >= 0.0);
    value.map(|value| value as u64).ok_or_else(|| format!("a pod answers without {name}"))
}

#[cfg(test)]
mod tests {
    use axum::{Router, routing::get};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_serve_says_is_read_and_what_it_does_not_know_is_unknown() {
        let partition =
            |topic: &str, position: u64| json!({"topic": topic, "partition": 0, "position": position, "end": 100});
        let mut status = json!({"state": "running", "events": 160, "partitions": [partition("a", 90), partition("a", 100), partition("b", 70)]});
        let known = processing(&status).unwrap();
        assert_eq!((known.processed, known.lag, known.lag_of["b"]), (160, 40, 30));
        status["state"] = json!("starting");
        assert!(processing(&status).is_err(), "brokers that do not answer are no lag of 0");
        let stream = json!({"stream": "s", "read": 10, "accepted": 7, "duplicate": 1, "invalid": 2, "expired": 0});
        let ledger = sums(&json!({"streams": [stream, stream], "tables": [], "unaccounted": 3})).unwrap();
        assert_eq!((ledger.read, ledger.invalid, ledger.unaccounted), (20, 4, 3));
        assert!(sums(&json!({"problem": "no"})).is_err());
        assert_eq!(metric("# HELP lag\nlag_more 4\nlag 3\n", "lag"), Ok(3));
        assert!(metric("lag_more 4\n", "lag").is_err());
    }

    #[test]
    fn what_pods_count_is_added_up_and_what_one_does_not_know_nobody_knows() {
        let ingest = |more: &str| {
            let of = "{ingester=\"web\"}";
            format!("clickstream_ingest_events_total{of} 40\nclickstream_ingest_complete{of} 1\n{more}")
        };
        let counters = Counters::of("ingest-web").unwrap();
        let mut work = Work { is_complete: true, ..Work::default() };
        counters.add("a", &ingest(""), &mut work).unwrap();
        assert_eq!(work, Work { done: [("a".into(), 40)].into(), waits: None, is_complete: true });
        let more = "clickstream_ingest_lag_events{ingester=\"web\"} 5\n";
        counters.add("b", &ingest(more).replace("complete{ingester=\"web\"} 1", "complete{} 0"), &mut work).unwrap();
        assert_eq!((work.done["b"], work.waits, work.is_complete), (40, Some(5), false));
        assert!(Counters::of("ingest-other").unwrap().add("c", &ingest(""), &mut work).is_err());

        let counters = Counters::of("sink-gold").unwrap();
        let told = "clickstream_sink_records_total 7\nclickstream_sink_lag_records 3\n";
        let mut work = Work { is_complete: true, ..Work::default() };
        for pod in ["a", "b"] {
            counters.add(pod, told, &mut work).unwrap();
        }
        assert_eq!((work.done["b"], work.waits, work.is_complete), (7, Some(6), false));
        assert!(counters.add("c", "clickstream_sink_records_total 7\n", &mut work).is_err(), "what waits is not known");
        assert!(Counters::of("process").is_none());
    }

    #[tokio::test]
    async fn serve_is_asked_where_no_token_is_and_an_older_one_where_its_readers_ask() {
        let serve = |router: Router| async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            (port, tokio::spawn(async move { axum::serve(listener, router).await }))
        };
        let says = |what: &'static str| Router::new().route("/api/v1/ledger", get(move || async move { what }));
        let with_token = Router::new().route("/api/v1/ledger", get(|| async { StatusCode::UNAUTHORIZED }));
        let (health, older) = (serve(says("1")).await, serve(Router::new()).await);
        let (readers, closed) = (serve(says("2")).await, serve(with_token).await);
        let scraper = Scraper::default();
        for (ports, answer) in [
            ([health.0, readers.0], Some(1)),
            ([health.0, closed.0], Some(1)),
            ([older.0, readers.0], Some(2)),
            ([older.0, closed.0], None),
        ] {
            let told = scraper.json("127.0.0.1", ports, "/api/v1/ledger").await;
            assert_eq!(told.as_ref().ok(), answer.map(Value::from).as_ref(), "{told:?}");
        }
        assert_eq!(SERVE_PORTS, [HEALTH_PORT, SERVE_PORT]);
        [health, older, readers, closed].iter().for_each(|(_, server)| server.abort());
    }

    #[tokio::test]
    async fn only_a_pod_with_the_very_spec_is_asked_about_topics() {
        let look =
            r#"{"differences": [{"topic": "views", "what": "set views: retention.ms=1 (it is 2)", "by_hand": false}]}"#;
        let router = Router::new().route("/api/v1/topics/differences", get(move || async move { look }));
        // The port is one for all pods: this test needs an address of its own.
        let listener = tokio::net::TcpListener::bind(("127.77.1.1", HEALTH_PORT)).await.unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let pod = |component: &str, hash: &str, address: &str| -> Pod {
            let labels = json!({"app.kubernetes.io/component": component});
            let metadata = json!({"labels": labels, "annotations": {HASH_ANNOTATION: hash}});
            serde_json::from_value(json!({"metadata": metadata, "status": {"phase": "Running", "podIP": address}}))
                .unwrap()
        };
        let (silent, answers) = ("127.77.1.2", "127.77.1.1");
        let pods = [pod("process", "new", answers), pod("serve", "old", answers)];
        let scraper = Scraper::default();
        assert_eq!(scraper.topics(&pods, "new").await, None);
        let pods = [pod("serve", "new", silent), pod("serve", "new", answers)];
        let Some(Reading::Known(told)) = scraper.topics(&pods, "new").await else { panic!("nobody answered") };
        assert!(told.len() == 1 && told[0].topic == "views" && !told[0].by_hand, "{told:?}");
        server.abort();
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_or_says_no_is_unknown_in_time() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hangs = get(std::future::pending::<()>);
        let router = Router::new().route("/fine", get(|| async { "fine" })).route("/hangs", hangs);
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let scraper = Scraper::default();
        assert_eq!(scraper.get("127.0.0.1", port, "/fine").await.unwrap(), "fine");
        assert!(scraper.get("127.0.0.1", port, "/nothing").await.unwrap_err().contains("404"));
        assert!(scraper.get("127.0.0.1", port, "/hangs").await.unwrap_err().contains("did not answer"));
        server.abort();
        drop(server.await);
        assert!(scraper.get("127.0.0.1", port, "/fine").await.is_err());
    }
}
