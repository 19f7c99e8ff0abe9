//! The API as a client sees it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use engine::output::{Row, SystemTable};
use serde_json::{Value as Json, json};

use super::{
    fixture::{Results, plan, sale, system, text},
    server::Server,
};

fn shop(rows: &[Row]) -> (Server, Results) {
    let server = Server::start();
    let mut results = Results::new(&plan());
    results.apply(&mut server.store.lock().unwrap(), rows);
    (server, results)
}

#[test]
fn tables_and_rows_are_told_as_they_are() {
    let (server, _) =
        shop(&[sale(0, text("Home"), "12345678901234567.123456789", 3), sale(1, text("Fashion"), "2.50", 1)]);
    let tables = server.get("/api/v1/tables").json();
    assert_eq!(tables["pipeline"], "shop");
    assert_eq!(tables["tables"][0]["name"], "category_sales");
    assert_eq!(tables["tables"][0]["rows"], 2);

    let answer = server.get("/api/v1/tables/category_sales?where=transaction_count+%3E+2&limit=5");
    assert!(answer.body.contains("\"total_sales\":12345678901234567.123456789,"), "{}", answer.body);
    let rows = answer.json();
    assert_eq!((&rows["count"], &rows["more"], &rows["total"]), (&json!(1), &json!(false), &json!(2)));
    assert_eq!(rows["columns"][3]["additive"], true);

    let csv = server.get("/api/v1/tables/category_sales?format=csv&order=window_start&limit=1");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    assert_eq!(csv.body.lines().count(), 2);
    let lines = server.get("/api/v1/tables/category_sales?format=jsonl");
    assert_eq!(lines.body.lines().filter(|line| serde_json::from_str::<Json>(line).is_ok()).count(), 2);
}

#[test]
fn sql_is_text_or_json() {
    let (server, _) = shop(&[sale(0, text("Home"), "2.25", 3)]);
    let statement = "select category, total_sales * 2 as twice from category_sales";
    let expected = json!({"columns": ["category", "twice"], "count": 1, "more": false, "rows": [{"category": "Home", "twice": 4.5}]});
    assert_eq!(server.post("/api/v1/sql", "text/plain", statement).json(), expected);
    let body = json!({ "sql": statement }).to_string();
    assert_eq!(server.post("/api/v1/sql", "application/json", &body).json(), expected);
    assert_eq!(server.post("/api/v1/sql?format=csv", "text/plain", statement).body, "category,twice\r\nHome,4.5\r\n");
}

#[test]
fn mistakes_get_an_answer_that_helps() {
    let (server, _) = shop(&[]);
    let check = |answer: super::server::Answer, status: u16, part: &str| {
        let body = answer.json();
        assert_eq!(answer.status, status, "{body}");
        assert!(body["error"].as_str().unwrap().contains(part), "{body}");
        body
    };
    let body = check(server.get("/api/v1/tables/category_sale"), 404, "did you mean");
    assert_eq!(body["suggestions"], json!(["category_sales"]));
    let body = check(server.get("/api/v1/tables/category_sales?where=%C3%A4+%3D+nope"), 400, "no such column");
    assert_eq!((&body["part"], &body["position"]), (&json!("where"), &json!(0)));
    let body = check(server.post("/api/v1/sql", "text/plain", "select 'ä', nope"), 400, "no such column: nope");
    assert_eq!(body["position"], 12, "in characters");
    check(server.post("/api/v1/sql", "text/plain", "drop table _store"), 400, "only questions");
    check(server.post("/api/v1/sql", "application/json", "{"), 400, "the body is wrong");
    check(server.get("/api/v1/tables/category_sales?limit=x"), 400, "limit");
    check(server.get("/api/v1/tables/category_sales?limit=100001"), 400, "at most 100000");
    check(server.get("/api/v1/tables/category_sales?wher=x"), 400, "wher");
    check(server.get("/api/v1/tables/category_sales?format=xml"), 400, "json, jsonl, csv");
    check(server.get("/api/v1/nothing"), 404, "nothing at /api/v1/nothing");
    check(server.get("/api/v1/sql"), 405, "does not answer this method");
    check(server.get("/api/v1/dead-letters?stream=broken"), 500, "the log says what");
    check(server.get("/api/v1/dead-letters/2"), 404, "no dead letter 2");
    check(server.post("/api/v1/dead-letters/replay", "application/json", "{}"), 400, "say how");
    check(server.post("/api/v1/dead-letters/replay", "application/json", "{\"sets\": []}"), 422, "sets");
    check(server.post("/api/v1/dead-letters/replay", "text/plain", "{}"), 415, "application/json");
    let long = "x".repeat(500_000);
    assert_eq!(server.post("/api/v1/sql", "text/plain", &long).status, 413);
    check(server.post("/api/v1/sql", "text/plain", &long[..70_000]), 400, "longer than 64 kB");
}

#[test]
fn the_ledger_adds_up() {
    let plan = plan();
    let (server, _) = shop(&[
        system(&plan, SystemTable::LedgerStreams, &["sales", "transactions/0"], &[100, 90, 4, 6, 0]),
        system(&plan, SystemTable::LedgerStreams, &["sales", "transactions/1"], &[50, 50, 0, 0, 0]),
        system(&plan, SystemTable::LedgerTables, &["category_sales", "map/0"], &[140, 10, 2, 0]),
        system(&plan, SystemTable::LedgerTables, &["category_sales", "merge/0"], &[0, 0, 1, 126]),
    ]);
    let ledger = server.get("/api/v1/ledger").json();
    let stream = json!({"stream": "sales", "read": 150, "accepted": 140, "duplicate": 4, "invalid": 6, "expired": 0, "unaccounted": 0});
    assert_eq!(ledger["streams"], json!([stream]));
    let table = json!({"table": "category_sales", "accepted": 140, "filtered": 10, "late": 3, "counted": 126, "unaccounted": 1});
    assert_eq!(ledger["tables"], json!([table]));
    assert_eq!(ledger["unaccounted"], 1);
}

#[test]
fn status_and_dead_letters_come_from_the_pipeline() {
    let (server, _) = shop(&[]);
    let status = server.get("/api/v1/status").json();
    assert_eq!(
        (&status["state"], &status["lag"], &status["pipeline"]),
        (&json!("running"), &json!(10), &json!("shop"))
    );
    let page = server.get("/api/v1/dead-letters?reason=wrong-type").json();
    assert_eq!(page["letters"].as_array().unwrap().len(), 1);
    assert_eq!(page["reasons"][0]["count"], 31);
    assert!(server.get("/metrics").body.contains("clickstream_events_total 7"));
    assert_eq!(server.get("/healthz").json(), json!({"status": "ok"}));
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn topics_are_listed_and_followed() {
    let (server, _) = shop(&[]);
    let topics = server.get("/api/v1/topics").json();
    assert_eq!(topics["topics"][0], json!({"name": "transactions", "kind": "raw", "partitions": 2, "records": 2}));
    let (_, mut events) = listen(&server, "/api/v1/topics/transactions/events?last=5");
    let events = data_of(&mut events, "events");
    assert_eq!(
        (&events["events"][0]["partition"], &events["events"][0]["text"]),
        (&json!(1), &json!("{\"event_type\":\"view\"}"))
    );
    assert_eq!(events["events"][1]["base64"], "/w==");
    let some = server.get("/api/v1/topics/transactions/events?last=1&follow=false").body;
    assert!(some.contains("base64") && !some.contains("view"), "{some}");
    assert_eq!(server.get("/api/v1/topics/nope/events").status, 404);
    assert_eq!(server.get("/api/v1/topics/transactions/events?last=5000").status, 400);
}

#[test]
fn only_a_token_reads_where_there_are_tokens() {
    let server = Server::start_with(Some(vec!["secret".into()]));
    for path in ["/", "/api/v1/tables", "/metrics", "/nothing"] {
        let refused = server.get(path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Basic "), "{path}");
        assert!(refused.json()["error"].as_str().unwrap().contains("token"), "{path}");
    }
    assert_eq!(server.get_as("/api/v1/tables", "Bearer wrong").status, 401);
    assert_eq!(server.get_as("/api/v1/tables", "Bearer secret").status, 200);
    // What a browser sends for any user with the token as the password.
    assert_eq!(server.get_as("/", "Basic bWU6c2VjcmV0").status, 200);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn the_operator_asks_for_figures_on_the_port_of_health_without_a_token() {
    let server = Server::start_with(Some(vec!["secret".into()]));
    for path in ["/api/v1/status", "/api/v1/ledger"] {
        assert_eq!(server.get(path).status, 401, "{path}");
        let told = server.get_of_health(path);
        assert_eq!((told.status, told.json()), (200, server.get_as(path, "Bearer secret").json()), "{path}");
    }
    for path in ["/api/v1/tables", "/api/v1/dead-letters", "/"] {
        assert_eq!(server.get_of_health(path).status, 404, "{path}");
    }
}

#[test]
fn answers_forbid_what_the_page_does_not_need() {
    let (server, _) = shop(&[]);
    for path in ["/", "/assets/app.js", "/api/v1/tables", "/nothing"] {
        let answer = server.get(path);
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'self'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

/// Every route is described, every description has a route, and each of them answers as described.
#[test]
fn the_description_tells_the_truth() {
    let (server, _) = shop(&[sale(0, text("Home"), "2.25", 3)]);
    let described = server.get("/api/v1/openapi.json").json();
    let described = described["paths"].as_object().unwrap();
    let mut paths = worker::serve::paths();
    paths.sort_unstable();
    let mut names: Vec<_> = described.keys().collect();
    names.sort_unstable();
    assert_eq!(names, paths);
    for (path, methods) in described {
        let path = path.replace("{name}", "category_sales").replace("{id}", "1").replace("{topic}", "transactions");
        let answers = &methods.as_object().unwrap().values().next().unwrap()["responses"]["200"]["content"];
        let (status, ty) = if methods["post"].is_object() {
            let taken = methods["post"]["requestBody"]["content"].as_object().unwrap();
            let (ty, body) = match taken.contains_key("text/plain") {
                true => ("text/plain", "select 1"),
                false => ("application/json", r#"{"all": true, "set": ["amount=0"]}"#),
            };
            let answer = server.post(&path, ty, body);
            (answer.status, answer.header("content-type").unwrap().to_owned())
        } else if path.ends_with("changes") || path.ends_with("events") {
            let head = listen(&server, &path).0;
            (200, head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap().to_owned())
        } else {
            let answer = server.get(&path);
            (answer.status, answer.header("content-type").unwrap().to_owned())
        };
        assert_eq!(status, 200, "{path}");
        let kind = ty.split(';').next().unwrap();
        assert!(answers[kind].is_object(), "{path} answers {kind}: {answers}");
    }
}

/// Opens a stream of events; returns its head, and the rest to read.
fn listen(server: &Server, path: &str) -> (String, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    (head, reader)
}

/// Reads lines until one begins with `data:` behind the named event.
fn data_of(reader: &mut BufReader<TcpStream>, event: &str) -> Json {
    let mut found = false;
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the stream ended");
        found |= line.trim_end() == format!("event: {event}");
        if let Some(data) = line.strip_prefix("data: ").filter(|_| found) {
            return serde_json::from_str(data).unwrap();
        }
    }
}

#[test]
fn changes_are_sent_as_they_happen() {
    let (server, mut results) = shop(&[]);
    let (_, mut all) = listen(&server, "/api/v1/changes");
    let (_, mut one) = listen(&server, "/api/v1/tables/category_sales/changes");
    data_of(&mut all, "hello");
    data_of(&mut one, "hello");
    let gone = Row { deleted: true, values: vec![], ..sale(0, text("Home"), "0", 0) };
    results.apply(&mut server.store.lock().unwrap(), &[sale(0, text("Home"), "2.50", 3), gone]);
    assert_eq!(data_of(&mut all, "changes"), json!({"offset": 2, "tables": {"category_sales": 2}}));
    let rows = data_of(&mut one, "rows");
    assert_eq!(rows["rows"][0]["total_sales"], 2.5);
    assert_eq!(rows["rows"][1]["deleted"], true);
    assert_eq!(server.get("/api/v1/tables/nope/changes").status, 404);
    // The server ends its streams when it stops, or it would never stop.
    drop(server);
    let mut rest = String::new();
    all.read_to_string(&mut rest).unwrap();
}
