//! Dead letters and replays as text for people.

use std::fmt::Write as _;

use serde_json::json;

use crate::{
    cli::query::render,
    dead_letters::{DeadLetterDetail, DeadLetterPage, DeadLetterView, Outcome, ReplayReport},
};

/// Bytes of a line of a hexadecimal dump.
const HEX_LINE: usize = 16;

/// The list, then how many there are by reason.
pub(super) fn table(page: &DeadLetterPage) -> String {
    let mut lines = Vec::new();
    for letter in &page.letters {
        let DeadLetterView { id, stream, source, offset, arrival, reason, detail, .. } = letter;
        let state = match (&letter.table, letter.replayed) {
            (_, true) => "replayed".to_owned(),
            (Some(table), false) => format!("refused by {table}"),
            (None, false) => "open".to_owned(),
        };
        // Written by hand: serde_json sorts keys, and the order is what people read.
        let cells = [
            ("id", json!(id.parse::<u64>().unwrap_or_default())),
            ("stream", json!(stream)),
            ("reason", json!(reason)),
            ("detail", json!(detail)),
            ("source", json!(format!("{source}@{offset}"))),
            ("arrival", json!(arrival)),
            ("state", json!(state)),
        ];
        let members: Vec<String> = cells.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        lines.extend_from_slice(format!("{{{}}}\n", members.join(",")).as_bytes());
    }
    let mut out = render::table(&lines);
    if !page.reasons.is_empty() {
        let counts = page.reasons.iter().map(|by| format!("{} {}: {}", by.stream, by.reason, by.count));
        let _ = writeln!(out, "\n{}", render::printable(&counts.collect::<Vec<_>>().join(", ")));
    }
    out
}

/// Rows for spreadsheets.
pub(super) fn csv(letters: &[DeadLetterView]) -> String {
    let mut out = String::from("id,stream,table,source,offset,arrival,reason,detail,text,truncated,replayed\r\n");
    for letter in letters {
        let DeadLetterView { id, stream, table, source, offset, arrival, reason, detail, text, truncated, replayed } =
            letter;
        let cells = [
            id,
            stream,
            table.as_deref().unwrap_or_default(),
            source,
            &offset.to_string(),
            arrival,
            reason,
            detail,
            text,
            &truncated.to_string(),
            &replayed.to_string(),
        ]
        .map(csv_cell);
        out.push_str(&cells.join(","));
        out.push_str("\r\n");
    }
    out
}

fn csv_cell(text: &str) -> String {
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// One letter, its bytes last.
pub(super) fn detail(found: &DeadLetterDetail) -> String {
    let letter = &found.letter;
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "{name:<9} {}", render::printable(text));
    };
    line("letter", &letter.id);
    line("stream", &letter.stream);
    if let Some(table) = &letter.table {
        line("table", table);
    }
    line("reason", &letter.reason);
    line("detail", &letter.detail);
    line("source", &format!("{}, offset {}", letter.source, letter.offset));
    line("arrival", &letter.arrival);
    line("replayed", if letter.replayed { "yes" } else { "no" });
    let cut = if letter.truncated { ", cut: the raw record is gone" } else { "" };
    line("bytes", &format!("{}{cut}", found.size));
    match &found.base64 {
        None => {
            let lines = letter.text.lines().map(render::printable);
            let _ = writeln!(out, "\n{}", lines.collect::<Vec<_>>().join("\n"));
        }
        Some(_) => {
            let _ = write!(out, "\n{}", hex(&found.bytes()));
        }
    }
    out
}

/// Offset, bytes, and what of them is text.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (at, line) in bytes.chunks(HEX_LINE).enumerate() {
        let pairs: String = line.iter().map(|byte| format!("{byte:02x} ")).collect();
        let shown = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let text: String = line.iter().map(shown).collect();
        let _ = writeln!(out, "{:08x}  {pairs:<48} {text}", at * HEX_LINE);
    }
    out
}

/// What became of a replay.
pub(super) fn report(report: &ReplayReport) -> String {
    let mut out = String::new();
    for letter in &report.letters {
        let what = match (letter.outcome, report.dry_run) {
            (Outcome::Repaired, true) => "would be repaired",
            (Outcome::Repaired, false) => "repaired",
            (Outcome::Refused, _) => "refused",
        };
        let parts: Vec<&str> =
            [letter.text.as_str(), letter.detail.as_str()].into_iter().filter(|part| !part.is_empty()).collect();
        let _ = writeln!(out, "{} {what}: {}", letter.id, render::printable(&parts.join("  ")));
    }
    let told = report.letters.len() as u64;
    let all = report.repaired + report.refused;
    if all > told {
        let _ = writeln!(out, "… and {} more", all - told);
    }
    let verb = if report.dry_run { "would be repaired" } else { "repaired" };
    let _ = writeln!(out, "{} {verb}, {} refused, {} replayed before", report.repaired, report.refused, report.already);
    for (table, count) in &report.freed {
        let _ = writeln!(
            out,
            "too late for {table}: {count} (their windows are freed: counted as late, never in the table; only a replay of \
             history brings them in)"
        );
    }
    if report.more {
        out.push_str("there are more letters than one replay takes: say it again\n");
    }
    out
}
