//! `clickstream query` as a person types it, against a directory and against a server.

use std::process::{Command, Output};

use engine::output::Row;
use worker::store::TableStore;

use super::{
    fixture::{Results, plan, sale, text},
    server::Server,
};

fn rows() -> Vec<Row> {
    (0..3).map(|minute| sale(minute, text("Home"), &format!("{minute}.50"), minute)).collect()
}

fn query(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clickstream")).arg("query").args(arguments).output().expect("the program starts")
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

/// Both sources, filled alike, give the same bytes and the same complaints.
#[test]
fn a_directory_and_a_server_answer_alike() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = TableStore::open(Some(&directory.path().join("tables.db")), &plan()).unwrap();
    Results::new(&plan()).apply(&mut store, &rows());
    let server = Server::start();
    Results::new(&plan()).apply(&mut server.store.lock().unwrap(), &rows());
    let both = |arguments: &[&str]| {
        let from = |source: [&str; 2]| query(&[&source[..], arguments].concat());
        let [file, http] = [["--data-dir", directory.path().to_str().unwrap()], ["--url", &server.url]].map(from);
        assert_eq!(out(&file), out(&http), "{arguments:?}: {}", String::from_utf8_lossy(&http.stderr));
        assert_eq!(String::from_utf8_lossy(&file.stderr), String::from_utf8_lossy(&http.stderr), "{arguments:?}");
        assert_eq!(file.status.code(), http.status.code());
        http
    };
    let table = both(&["category_sales", "--where", "transaction_count > 0", "--order", "total_sales"]);
    assert_eq!(
        out(&table),
        "\
window_start          window_end            category  total_sales  transaction_count  average  final  version
────────────────────  ────────────────────  ────────  ───────────  ─────────────────  ───────  ─────  ───────
2025-11-21T00:01:00Z  2025-11-21T00:02:00Z  Home              1.5                  1      1.5  false        1
2025-11-21T00:02:00Z  2025-11-21T00:03:00Z  Home              2.5                  2      2.5  false        2
"
    );
    both(&["category_sales", "--format", "csv"]);
    both(&["category_sales", "--format", "json", "--limit", "0"]);
    let some = both(&["category_sales", "--format", "jsonl", "--limit", "2", "--offset", "0"]);
    assert_eq!(out(&some).lines().count(), 2);
    assert!(String::from_utf8_lossy(&some.stderr).contains("--limit 0 shows all"));
    both(&["--sql", "select category, count(*) n from category_sales group by 1"]);
    assert!(out(&both(&[])).starts_with("name"), "without arguments the tables are listed");

    let complaint = |arguments: &[&str], text: &str| {
        let output = both(arguments);
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(2), text));
    };
    complaint(&["category_sale"], "error: there is no table \"category_sale\"; did you mean \"category_sales\"?\n");
    complaint(
        &["category_sales", "--where", "final and\n  totl_sales > 1"],
        "error: no such column: totl_sales; did you mean total_sales?\n  where:   totl_sales > 1\n           ^\n",
    );
    complaint(&["--sql", "selec 1"], "error: near \"selec\": syntax error\n  sql: selec 1\n       ^\n");
}

#[test]
fn nobody_there_is_told_with_what_to_do() {
    let complaint = |arguments: &[&str], code: i32, part: &str| {
        let output = query(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    };
    complaint(&["sessions", "--url", "http://127.0.0.1:1"], 1, "start one with `clickstream run`");
    let empty = tempfile::tempdir().unwrap();
    complaint(&["sessions", "--data-dir", empty.path().to_str().unwrap()], 2, "no tables at");
    complaint(&["sessions", "--data-dir", "/nonexistent"], 2, "there is no directory /nonexistent");
}
