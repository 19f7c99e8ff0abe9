//! Alerts that are posted: tried again, told apart, and kept from nobody else.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread::JoinHandle,
};

use serde_json::{Value as Json, json};

use super::{
    dead_letters::{MANIFEST, SALES},
    program::Shop,
};

const ALERTS: &str = "
  alerts:
  - name: first-sale
    table: by_minute
    when: sales >= 1
    description: somebody bought something
    notify: [{webhook: {urlSecret: shop-alerts}}, {topic: shop-alerts}]
  - name: silent
    table: by_minute
    when: sales >= 1
    notify: [{webhook: {urlSecret: not-there}}]
";

/// A request: its head and body.
struct Request {
    head: String,
    body: Json,
}

fn request(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the request ends: {head}");
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Request { head, body: serde_json::from_slice(&body).unwrap() }
}

/// Answers requests with these statuses, one after the other.
fn receiver(statuses: &'static [&'static str]) -> (String, JoinHandle<Vec<Request>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook?token=secret", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let answer = |status: &&str| {
            let (mut stream, _) = listener.accept().unwrap();
            let request = request(&stream);
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            request
        };
        statuses.iter().map(answer).collect()
    });
    (url, thread)
}

fn run(shop: &Shop, url: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clickstream"));
    command.args(["run", &shop.manifest(), "--data-dir", &shop.data(), "--listen", "127.0.0.1:0", "--until-done"]);
    let output = command.env("CLICKSTREAM_SECRET_SHOP_ALERTS_URL", url).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || url.starts_with("ftp"), "{told}");
    told
}

#[test]
fn an_alert_is_posted_until_somebody_takes_it() {
    let shop = Shop::new(&format!("{MANIFEST}{ALERTS}"), &[("sales.jsonl", SALES)]);
    let (url, requests) = receiver(&["503 Busy", "200 OK"]);
    let told = run(&shop, &url);
    let requests = requests.join().unwrap();
    assert_eq!(requests[0].body, requests[1].body, "the same again");
    let body = &requests[1].body;
    assert_eq!((&body["alert"], &body["state"]), (&json!("first-sale"), &json!("raised")), "{body}");
    assert_eq!((&body["pipeline"], &body["window_start"]), (&json!("shop"), &json!("2025-03-01T09:00:00Z")), "{body}");
    assert_eq!(body["description"], "somebody bought something");
    assert!(body["row"].to_string().contains("\"sales\":1"), "{body}");
    let key = format!("idempotency-key: shop/{}/{}\r\n", body["epoch"], body["version"]);
    assert!(requests[1].head.contains(&key), "{}", requests[1].head);
    assert!(told.contains("alert silent: nobody is told: secret not-there has no `url`"), "{told}");
    assert!(told.contains("alert first-sale: topic shop-alerts"), "{told}");
    assert!(!told.contains("token=secret"), "addresses are secrets: {told}");

    // What was told is not told again: nobody listens any more, and the run ends all the same.
    let again = run(&shop, &url);
    assert!(!again.contains("nobody was told"), "{again}");
}

#[test]
fn what_is_refused_is_not_tried_again() {
    let shop = Shop::new(&format!("{MANIFEST}{ALERTS}"), &[("sales.jsonl", SALES)]);
    let (url, requests) = receiver(&["404 Not Found"]);
    let told = run(&shop, &url);
    assert_eq!(requests.join().unwrap().len(), 1);
    assert!(told.contains("nobody was told of an alert") && told.contains("status 404"), "{told}");
    assert!(!told.contains("token=secret"), "{told}");
}

#[test]
fn a_secret_that_is_no_address_is_a_mistake() {
    let shop = Shop::new(&format!("{MANIFEST}{ALERTS}"), &[("sales.jsonl", SALES)]);
    let told = run(&shop, "ftp://somewhere");
    assert!(told.contains("secret shop-alerts: `url` is no http or https address"), "{told}");
}
