//! What a run tells people on the standard error: plain lines, or one JSON object a line where the program's log is JSON.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::clock;

/// Set once, before anything is told.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on in JSON, of the same shape as the program's log.
pub fn as_json() {
    AS_JSON.store(true, Ordering::Relaxed);
}

/// Tells a line.
pub fn line(text: &str) {
    write("INFO", text);
}

/// Tells why a command gave up.
pub fn error(text: &str) {
    write("ERROR", text);
}

fn write(level: &str, text: &str) {
    if AS_JSON.load(Ordering::Relaxed) {
        let timestamp = engine::time::rfc3339(clock::now());
        let told = json!({
            "timestamp": timestamp, "level": level, "fields": { "message": text }, "target": "clickstream",
        });
        eprintln!("{told}");
    } else if level == "ERROR" {
        eprintln!("error: {text}");
    } else {
        eprintln!("{text}");
    }
}
