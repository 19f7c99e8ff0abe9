//! An event as text: one line, several, or its bytes; coloured by topic and kind.

use std::io::{self, Write};

use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::{cli::query::render::printable, store::Pairs, tail::TopicEvent};

/// Fields that tell what kind of event it is; the first that is there. Results and dead letters are ours: their table and reason.
const KIND_FIELDS: [&str; 8] = ["event_type", "action", "event", "type", "kind", "event_name", "reason", "table"];

/// Colours that can be read on dark and light terminals: cyan, green, yellow, magenta, blue, red.
const COLORS: [u8; 6] = [36, 32, 33, 35, 34, 31];

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Time, place, kind and text on one line.
    Line,
    /// The same with the event on lines of its own.
    Pretty,
    /// The bytes, then a line end.
    Raw,
}

/// Writes events.
pub(super) struct Painter {
    style: Style,
    color: bool,
    topics: Vec<String>,
    /// Widest topic, so that kinds stand under each other.
    width: usize,
}

impl Painter {
    pub fn new(style: Style, color: bool, topics: &[String]) -> Self {
        let width = topics.iter().map(|topic| topic.chars().count()).max().unwrap_or(0);
        Self { style, color, topics: topics.to_vec(), width }
    }

    pub fn write(&self, event: &TopicEvent, out: &mut impl Write) -> io::Result<()> {
        if self.style == Style::Raw {
            out.write_all(&event.bytes())?;
            return out.write_all(b"\n");
        }
        let kind = kind(&event.text);
        let place = format!("{:<width$} {}@{}", event.topic, event.partition, event.offset, width = self.width);
        let topic = self.topics.iter().position(|topic| *topic == event.topic).unwrap_or_default();
        let place = self.paint(COLORS[topic % COLORS.len()], &place);
        let kind = kind.map(|kind| {
            let color = COLORS[(xxh3_64(kind.as_bytes()) % COLORS.len() as u64) as usize];
            self.paint(color, &printable(&kind)) + "  "
        });
        let (kind, cut) = (kind.unwrap_or_default(), if event.truncated { " …" } else { "" });
        let head = format!("{}  {place}  {kind}", self.paint(2, &event.arrival));
        match (self.style, pretty(&event.text)) {
            (Style::Pretty, Some(text)) => writeln!(out, "{}\n{text}{cut}", head.trim_end()),
            _ => writeln!(out, "{head}{}{cut}", printable(&event.text)),
        }
    }

    fn paint(&self, color: u8, text: &str) -> String {
        if self.color { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn kind(text: &str) -> Option<String> {
    let members: Pairs<'_> = serde_json::from_str(text).ok()?;
    let find = |name: &&str| members.0.iter().find(|(found, _)| found == name);
    let found = KIND_FIELDS.iter().find_map(find)?;
    serde_json::from_str(found.1.get()).ok()
}

/// The members of an object on lines of their own, as they are written: no digit is lost, no key changes its place.
fn pretty(text: &str) -> Option<String> {
    let members: Pairs<'_> = serde_json::from_str(text).ok()?;
    let line = |(name, value): &(std::borrow::Cow<'_, str>, &RawValue)| {
        format!("    {}: {}", printable(name), printable(&shown(value.get())))
    };
    Some(members.0.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// Text without quotes; everything else as it is.
fn shown(value: &str) -> String {
    match value.starts_with('"') {
        true => serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()),
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(style: Style, color: bool, text: &str) -> String {
        let painter = Painter::new(style, color, &["clicks".to_owned(), "promotions".to_owned()]);
        let event = TopicEvent {
            topic: "clicks".into(),
            partition: 1,
            offset: 7,
            arrival: "2025-03-01T09:00:00Z".into(),
            text: text.into(),
            base64: None,
            truncated: false,
        };
        let mut out = Vec::new();
        painter.write(&event, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_event_is_a_line_or_several_or_its_bytes() {
        let text = r#"{"user":"u1","action":"view","price":12345678901234567.10,"o":{"x":1}}"#;
        assert_eq!(written(Style::Line, false, text), format!("2025-03-01T09:00:00Z  clicks     1@7  view  {text}\n"));
        assert_eq!(
            written(Style::Pretty, false, text),
            "2025-03-01T09:00:00Z  clicks     1@7  view\n    user: u1\n    action: view\n    price: 12345678901234567.10\n    \
             o: {\"x\":1}\n"
        );
        assert_eq!(written(Style::Raw, true, text), format!("{text}\n"));
        let red = written(Style::Line, true, text);
        assert!(red.contains("\x1b[36mclicks     1@7\x1b[0m") && red.contains("mview\x1b[0m"), "{red:?}");
    }

    #[test]
    fn what_is_no_json_is_shown_and_cannot_steer() {
        assert_eq!(written(Style::Line, false, "a\u{1b}[2Jb"), "2025-03-01T09:00:00Z  clicks     1@7  a\\u{1b}[2Jb\n");
    }
}
