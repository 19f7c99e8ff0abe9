//! The collector over a real socket.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use engine::{
    expr::{Compare, Expr},
    plan::{ColumnPlan, FieldPlan, RulePlan, StreamPlan},
    value::{Type, Value},
};

use super::{Check, Collector, commit, own_router, queue};
use crate::{
    ingest::{
        Control, Outbox, Routes, Target, Topics,
        limits::{BODIES_KIB_MAX, REQUESTS_WAITING_MAX},
        memory::MemoryLog,
    },
    serve::connections,
};

struct Site {
    address: SocketAddr,
    log: MemoryLog,
    control: Arc<Control>,
    committer: Option<JoinHandle<()>>,
    _runtime: tokio::runtime::Runtime,
}

fn stream() -> StreamPlan {
    let field =
        |name: &str, ty| FieldPlan { name: name.into(), path: vec![name.into()], ty, required: true, hashed: false };
    let fields = vec![field("id", Type::String), field("n", Type::Integer)];
    let (column, zero) = (Expr::Column(1, Type::Integer), Expr::Literal(Value::Integer(0), Type::Integer));
    StreamPlan {
        name: "events".into(),
        topics: vec![0],
        key: Some(0),
        columns: fields.iter().map(|field| ColumnPlan { name: field.name.clone(), ty: field.ty }).collect(),
        fields,
        event_time: None,
        deduplicate: None,
        rules: vec![RulePlan {
            name: "positive".into(),
            check: Expr::Compare(Compare::Greater, Box::new(column), Box::new(zero)),
        }],
        enrich: Vec::new(),
        bots: None,
        derive: Vec::new(),
        quality: None,
        silver: false,
    }
}

fn site() -> Site {
    let (sender, posted) = queue();
    let collector = Arc::new(Collector {
        name: "web".into(),
        tokens: Some(vec!["secret".into()]),
        path: "/collect".into(),
        timeout: Duration::from_millis(300),
        body_bytes_max: 1 << 20,
        origins: vec!["https://shop.example.com".into()],
        check: Check::new(vec![stream()]),
        room: tokio::sync::Semaphore::new(BODIES_KIB_MAX as usize),
        posted: sender,
    });
    let (log, control) = (MemoryLog::new(4), Arc::new(Control::new()));
    let (own, theirs) = (log.clone(), control.clone());
    let committer = thread::spawn(move || {
        let target = Target { topic: "t".into(), key: Some(vec!["id".into()]) };
        let mut topics = Topics::new(vec![target], Routes::default(), &own);
        // The tests look at what clients hear of a log that fails.
        let _ = commit(&posted, &mut topics, &mut Outbox::new(Box::new(own), "web"), &theirs, None);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        let never = std::future::pending();
        connections::accept(listener, own_router(&collector), never, || {}).await
    });
    Site { address, log, control, committer: Some(committer), _runtime: runtime }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.control.stop();
        self.committer.take().map(JoinHandle::join);
    }
}

impl Site {
    fn send(&self, request: &[u8]) -> (u16, String) {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.write_all(request).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer.split(' ').nth(1).unwrap_or("0").parse().unwrap(), answer)
    }

    fn post(&self, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer secret\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat())
    }
}

#[test]
fn accepted_events_are_in_the_log_when_the_answer_comes() {
    let site = site();
    for (at, path) in ["/v1/events/web", "/v1/events", "/collect"].into_iter().enumerate() {
        let (status, answer) = site.post(path, "", br#"{"id":"a","n":1}"#);
        assert!(
            status == 200
                && answer.contains(r#"{"accepted":1,"rejected":0,"results":[{"index":0,"status":"accepted"}]}"#),
            "{answer}"
        );
        assert_eq!(site.log.payloads().len(), at + 1);
    }
    let (status, _) = site.post(
        "/collect",
        "content-type: application/x-ndjson\r\n",
        b"{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":2}\n",
    );
    assert_eq!((status, site.log.payloads().len()), (200, 5));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(br#"[{"id":"a","n":1},{"id":"c","n":3}]"#).unwrap();
    let (status, _) = site.post("/collect", "content-encoding: gzip\r\n", &gzip.finish().unwrap());
    assert_eq!((status, site.log.payloads().len()), (200, 7));
    let committed = site.log.committed.lock().unwrap();
    let partition = |id: &str| {
        committed.records.iter().filter(|record| record.2.contains(id)).map(|record| record.1).collect::<Vec<_>>()
    };
    assert!(partition("\"a\"").windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn one_bad_event_of_a_hundred_is_told_and_not_written() {
    let site = site();
    let mut events: Vec<String> = (1..=100).map(|n| format!(r#"{{"id":"e{n}","n":{n}}}"#)).collect();
    events[41] = r#"{"id":"e42","n":"x"}"#.into();
    events[57] = r#"{"id":"e58","n":-1}"#.into();
    let (status, answer) =
        site.post("/v1/events/web", "content-type: application/json\r\n", format!("[{}]", events.join(",")).as_bytes());
    assert!(status == 200 && answer.contains(r#"{"accepted":98,"rejected":2,"#), "{answer}");
    assert!(answer.contains(r#"{"index":41,"status":"rejected","reason":"wrong-type: "#), "{answer}");
    assert!(answer.contains(r#"{"index":57,"status":"rejected","reason":"rule positive is false"}"#), "{answer}");
    let payloads = site.log.payloads();
    assert!(payloads.len() == 98 && !payloads.iter().any(|payload| payload.contains("e42") || payload.contains("e58")));
    let (status, answer) = site.post("/v1/events/web", "", br#"{"id":"a"}"#);
    assert!(status == 422 && answer.contains("missing-field: n is missing"), "{answer}");
}

#[test]
fn what_cannot_be_taken_is_answered_with_its_status() {
    let site = site();
    let check = |request: (u16, String), status: u16, part: &str| {
        assert!(request.0 == status && request.1.contains(part), "{}", request.1);
    };
    let event = br#"{"id":"a","n":1}"#;
    let with = |authorization: &str| {
        format!(
            "POST /collect HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-length: 2\r\n\r\n{{}}"
        )
    };
    check(site.send(with("").as_bytes()), 401, "www-authenticate: Bearer");
    check(site.send(with("authorization: Bearer wrong\r\n").as_bytes()), 401, "send the collector's token");
    check(site.post("/v1/events/other", "", event), 404, "there is no collector");
    check(site.post("/nowhere", "", event), 404, "");
    check(site.send(b"GET /collect HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"), 405, "");
    check(site.post("/collect", "", &vec![b' '; 2 << 20]), 413, "longer than 1048576 bytes");
    check(site.post("/collect", "content-type: text/html\r\n", event), 415, "accepted are application/json");
    check(site.post("/collect", "content-encoding: br\r\n", event), 415, "accepted are gzip");
    check(site.post("/collect", "content-encoding: gzip\r\n", event), 400, "not the gzip");
    check(site.post("/collect", "", b"hello"), 400, "not JSON at byte 0");
    check(site.post("/collect", "", b""), 400, "the body is empty");
    check(site.send(b"nonsense\r\n\r\n"), 400, "");
    assert_eq!(site.log.payloads().len(), 0);
}

#[test]
fn a_client_that_never_ends_its_body_is_cut_off() {
    let site = site();
    let started = Instant::now();
    let request = b"POST /collect HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\ncontent-length: 100\r\n\r\n{";
    let (status, answer) = site.send(request);
    assert!(status == 408 && answer.contains("did not end within 0.3 s"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn pages_of_named_origins_may_post() {
    let site = site();
    let preflight = |origin: &str| {
        site.send(
            format!("OPTIONS /collect HTTP/1.1\r\nhost: x\r\nconnection: close\r\norigin: {origin}\r\n\r\n").as_bytes(),
        )
    };
    let (status, answer) = preflight("https://shop.example.com");
    assert!(status == 204 && answer.contains("access-control-allow-origin: https://shop.example.com"), "{answer}");
    assert!(!preflight("https://evil.example.com").1.contains("access-control-allow-origin"));
}

#[test]
fn a_log_that_fails_is_answered_503() {
    let site = site();
    site.log.committed.lock().unwrap().fail_at = Some(0);
    let (status, answer) = site.post("/collect", "", br#"{"id":"a","n":1}"#);
    assert!(status == 503 && answer.contains("retry-after: 1") && answer.contains("could not be stored"), "{answer}");
    let (status, answer) = site.post("/collect", "", br#"{"id":"a","n":1}"#);
    assert!(status == 503, "{answer}");
}

/// While the log takes its time, requests wait up to a bound; who comes then hears it at once, and nobody who waits is forgotten.
#[test]
fn a_queue_that_is_full_is_answered_503_and_loses_nobody() {
    let site = &site();
    let held = site.log.committed.lock().unwrap();
    let (told, answers) = std::sync::mpsc::channel();
    let refused = |status: u16, answer: &str| {
        assert!(answer.contains("retry-after: 1") && answer.contains("the collector is busy"), "{status} {answer}");
    };
    let stored = thread::scope(|scope| {
        let mut clients = 0;
        let mut come = || {
            let (told, event) = (told.clone(), format!(r#"{{"id":"{clients}","n":1}}"#));
            scope.spawn(move || told.send(site.post("/collect", "", event.as_bytes())).unwrap());
            clients += 1;
        };
        // As many as may wait, those that the committer has taken already, and more.
        (0..3 * REQUESTS_WAITING_MAX).for_each(|_| come());
        let (status, answer) = answers.recv_timeout(Duration::from_secs(20)).expect("all of them wait");
        assert_eq!(status, 503, "while nothing can be stored: {answer}");
        refused(status, &answer);
        drop(held);
        let others: Vec<(u16, String)> = (1..clients).map(|_| answers.recv().unwrap()).collect();
        others.iter().filter(|(status, _)| *status != 200).for_each(|(status, answer)| refused(*status, answer));
        others.iter().filter(|(status, _)| *status == 200).count()
    });
    assert!(stored >= REQUESTS_WAITING_MAX, "{stored}");
    assert_eq!(site.log.payloads().len(), stored);
}

#[test]
fn an_event_that_the_topic_never_takes_is_refused_alone() {
    let site = site();
    site.log.committed.lock().unwrap().payload_max = Some(50);
    let long = format!(r#"{{"id":"{}","n":1}}"#, "x".repeat(50));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|at| (at, &site, &long)).collect();
        let posted: Vec<_> = clients
            .into_iter()
            .map(|(at, site, long)| {
                scope.spawn(move || {
                    let event = if at == 3 { long.clone() } else { format!(r#"{{"id":"{at}","n":1}}"#) };
                    (at, site.post("/collect", "", event.as_bytes()))
                })
            })
            .collect();
        for (at, (status, answer)) in posted.into_iter().map(|client| client.join().unwrap()) {
            let expected = if at == 3 { 413 } else { 200 };
            assert!(status == expected, "{at}: {answer}");
            assert!(at != 3 || answer.contains("raise `max.message.bytes`"), "{answer}");
        }
    });
    assert_eq!((site.log.payloads().len(), site.control.read.load(std::sync::atomic::Ordering::Relaxed)), (7, 7));
}
