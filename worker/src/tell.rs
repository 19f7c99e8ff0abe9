//! What a command says: results on the standard output, and beside them, for people, plain lines on the standard error, or
//! one JSON object a line where the program's log is JSON.
//!
//! Whoever reads may stop reading (`| head`): that is no failure, and never a panic.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use crate::clock;

/// Set once, before anything is told.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on in JSON, of the same shape as the program's log.
pub fn as_json() {
    AS_JSON.store(true, Ordering::Relaxed);
}

/// Writes results to the standard output. A reader that has seen enough is no error.
///
/// # Errors
/// Where they cannot be written: a full disk, say.
pub fn out(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Writes a line to the standard output.
///
/// # Errors
/// As [`out`].
pub fn result(text: &str) -> io::Result<()> {
    out(format!("{text}\n").as_bytes())
}

/// Tells a line.
pub fn line(text: &str) {
    write("INFO", text);
}

/// Tells why a command gave up.
pub fn error(text: &str) {
    write("ERROR", text);
}

/// Writes to the standard error as it is: a line that is written over on a terminal.
pub fn bare(text: &str) {
    // Nobody is left to tell that nobody listens.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

fn write(level: &str, text: &str) {
    if AS_JSON.load(Ordering::Relaxed) {
        let timestamp = engine::time::rfc3339(clock::now());
        let told = json!({
            "timestamp": timestamp, "level": level, "fields": { "message": text }, "target": "clickstream",
        });
        bare(&format!("{told}\n"));
    } else if level == "ERROR" {
        bare(&format!("error: {text}\n"));
    } else {
        bare(&format!("{text}\n"));
    }
}
