//! `tail`, from a directory and from a running process.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use super::{
    dead_letters::{SALES, shop},
    program::ends_with,
};

#[test]
fn a_directory_shows_its_newest_events_in_order() {
    let shop = shop();
    shop.run_until_done(&[]);
    let data = shop.data();
    let tail = |arguments: &[&str]| ends_with(0, &[&["tail", "--data-dir", &data][..], arguments].concat());
    let (raw, _) = tail(&["--raw"]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&raw), sorted(SALES));
    assert_eq!(tail(&["--raw", "-n", "2"]).0.lines().count(), 2);
    let (lines, _) = tail(&["sales-raw", "dead-letters"]);
    assert!(lines.contains("sales-raw    ") && lines.contains("dead-letters 0@0  "), "{lines}");
    assert!(!lines.contains('\u{1b}'), "no colours into a pipe: {lines}");
    assert!(tail(&["--color", "always"]).0.contains("\u{1b}["));
    assert!(tail(&["results", "--pretty"]).0.contains("    final: true"));
    assert!(tail(&["--follow"]).1.contains("nothing more will come"));
    let (_, told) = ends_with(2, &["tail", "nope", "--data-dir", &data]);
    assert!(told.contains("there is no topic nope; there are sales-raw, dead-letters"), "{told}");
}

#[test]
fn a_running_process_shows_what_comes() {
    let shop = shop();
    let running = shop.start(&[]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_clickstream"));
    command.args(["tail", "sales-raw", "dead-letters", "--follow", "--raw", "-n", "100", "--url", &running.url]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let expected = SALES.lines().count() + 4;
    let got: Vec<String> = lines.by_ref().take(expected).map(Result::unwrap).collect();
    assert!(got.iter().any(|line| line == "not json at all"), "{got:?}");
    assert!(got.iter().any(|line| line.contains("\"reason\":\"not-json\"")), "{got:?}");
    let (some, _) = ends_with(0, &["tail", "--raw", "-n", "3", "--url", &running.url]);
    assert_eq!(some.lines().count(), 3);
    let (_, told) = ends_with(2, &["tail", "nope", "--url", &running.url]);
    assert!(told.contains("there is no topic nope"), "{told}");
    running.stop();
    assert!(lines.next().is_none(), "the stream ends with the server");
    assert!(child.wait().unwrap().success());
}
