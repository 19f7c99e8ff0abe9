//! `clickstream tail [TOPIC…]`: events of several topics as they pass, from a running pipeline, a data directory or Kafka.

mod line;

use std::{
    io::{self, IsTerminal as _, Write},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::ValueEnum;
use crossbeam_channel::{Sender, bounded};
use serde::Deserialize;

use self::line::{Painter, Style};
use super::{
    Mistake,
    place::{Client, Place, Where},
};
use crate::{
    tail::{Tail, TailError, TopicEvent, TopicInfo, TopicKind, topics},
    tell,
};

/// Batches of events that wait for the terminal; behind them the server waits.
const QUEUE: usize = 16;

/// How long a thread waits for events before it looks whether anybody listens.
#[cfg(feature = "fleet")]
const WAIT: Duration = Duration::from_secs(1);

/// Arguments of `tail`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Topics: raw ones, streams whose accepted events are kept, dead-letters, repaired, results. Without any, all raw ones.
    topics: Vec<String>,
    #[command(flatten)]
    at: Where,
    /// Events on several lines, indented.
    #[arg(long, conflicts_with = "raw")]
    pretty: bool,
    /// Only the records' bytes, one a line.
    #[arg(long)]
    raw: bool,
    /// Go on with what comes.
    #[arg(long, short)]
    follow: bool,
    /// Begin with so many of the newest records of each topic.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=1_000))]
    last: u64,
    /// Colours; by itself only on a terminal, and not where NO_COLOR is set.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// Prints the events.
///
/// # Errors
/// Where a topic is unknown, or there is no pipeline.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let style = match (args.raw, args.pretty) {
        (true, _) => Style::Raw,
        (_, true) => Style::Pretty,
        _ => Style::Line,
    };
    let wants_color = match args.color {
        Color::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        color => color == Color::Always,
    };
    let printed = match args.at.find()? {
        Place::Directory(unowned) => {
            let chosen = choose(&args.topics, &topics(&unowned.log, &unowned.plan)?);
            let mut painter = Painter::new(style, wants_color, &chosen);
            let tails = open(&chosen, |name| Tail::new(Arc::clone(&unowned.log), &unowned.plan, name, args.last))?;
            let printed = print(&mut painter, &from_tails(tails, args.last)?);
            if args.follow {
                tell::line(&format!("no process runs on {}: nothing more will come", unowned.path.display()));
            }
            printed
        }
        #[cfg(feature = "fleet")]
        Place::Fleet(fleet) => {
            let chosen = choose(&args.topics, &fleet.topics()?);
            let mut painter = Painter::new(style, wants_color, &chosen);
            let tails = open(&chosen, |name| fleet.tail(name, args.last))?;
            match args.follow {
                true => follow_tails(tails, args.last, &mut painter)?,
                false => print(&mut painter, &from_tails(tails, args.last)?),
            }
        }
        Place::Server(client) => {
            let there: Topics = client.get("/api/v1/topics", &[])?;
            let chosen = choose(&args.topics, &there.topics);
            let mut painter = Painter::new(style, wants_color, &chosen);
            if args.follow {
                follow(&client, &chosen, args.last, &mut painter)?
            } else {
                print(&mut painter, &from_server(&client, &chosen, args.last)?)
            }
        }
    };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The list as the API writes it.
#[derive(Deserialize)]
struct Topics {
    topics: Vec<TopicInfo>,
}

/// A message of server-sent events.
#[derive(Default, Deserialize)]
struct Batch {
    events: Vec<TopicEvent>,
}

fn choose(wanted: &[String], there: &[TopicInfo]) -> Vec<String> {
    match wanted.is_empty() {
        true => there.iter().filter(|topic| topic.kind == TopicKind::Raw).map(|topic| topic.name.clone()).collect(),
        false => wanted.to_vec(),
    }
}

fn print(painter: &mut Painter, events: &[TopicEvent]) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    events.iter().try_for_each(|event| painter.write(event, &mut out))?;
    out.flush()
}

fn open(chosen: &[String], tail: impl Fn(&str) -> Result<Tail, TailError>) -> anyhow::Result<Vec<Tail>> {
    let one = |name: &String| {
        tail(name).map_err(|error| match error {
            TailError::Unknown { .. } => anyhow::Error::new(Mistake(error.to_string())),
            TailError::Log(error) => error.into(),
        })
    };
    chosen.iter().map(one).collect()
}

/// The newest of each topic, all in the order of their arrival.
fn from_tails(tails: Vec<Tail>, last: u64) -> anyhow::Result<Vec<TopicEvent>> {
    let mut all = Vec::new();
    for mut tail in tails {
        all.extend(newest(read_to_end(&mut tail)?, last));
    }
    sort(&mut all);
    Ok(all)
}

fn read_to_end(tail: &mut Tail) -> anyhow::Result<Vec<TopicEvent>> {
    let mut events = Vec::new();
    while !tail.is_at_end() {
        events.extend(tail.next(Duration::ZERO)?);
    }
    Ok(events)
}

/// Prints until the reader has seen enough: a thread for each topic, one bounded channel.
#[cfg(feature = "fleet")]
fn follow_tails(tails: Vec<Tail>, last: u64, painter: &mut Painter) -> anyhow::Result<io::Result<()>> {
    let (sender, batches) = bounded::<anyhow::Result<Vec<TopicEvent>>>(QUEUE);
    for mut tail in tails {
        let sender = sender.clone();
        let follow = move || {
            let mut next = read_to_end(&mut tail).map(|events| newest(events, last));
            while sender.send(next).is_ok() {
                next = tail.next(WAIT).map_err(anyhow::Error::from);
            }
        };
        thread::Builder::new().name("tail".into()).spawn(follow)?;
    }
    drop(sender);
    for events in batches {
        if let Err(error) = print(painter, &events?) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn from_server(client: &Client, chosen: &[String], last: u64) -> anyhow::Result<Vec<TopicEvent>> {
    let mut all = Vec::new();
    for name in chosen {
        let mut events = Vec::new();
        client.events(&path(name), &query(last, false), |data| {
            events.extend(batch(data).events);
            true
        })?;
        all.extend(newest(events, last));
    }
    sort(&mut all);
    Ok(all)
}

/// Prints until the server ends or the reader has seen enough: a thread for each topic, one bounded channel.
fn follow(client: &Client, chosen: &[String], last: u64, painter: &mut Painter) -> anyhow::Result<io::Result<()>> {
    let (sender, batches) = bounded::<anyhow::Result<Vec<TopicEvent>>>(QUEUE);
    for name in chosen {
        let (client, name, sender) = (client.clone(), name.clone(), sender.clone());
        thread::Builder::new().name(format!("tail-{name}")).spawn(move || listen(&client, &name, last, &sender))?;
    }
    drop(sender);
    for events in batches {
        if let Err(error) = print(painter, &events?) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn listen(client: &Client, name: &str, last: u64, sender: &Sender<anyhow::Result<Vec<TopicEvent>>>) {
    let mut first = true;
    let heard = client.events(&path(name), &query(last, true), |data| {
        let events = batch(data).events;
        let events = if std::mem::take(&mut first) && last > 0 { newest(events, last) } else { events };
        sender.send(Ok(events)).is_ok()
    });
    if let Err(error) = heard {
        // Nobody listens any more: the end is near anyway.
        drop(sender.send(Err(error)));
    }
}

fn path(name: &str) -> String {
    let escaped: String = name
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    format!("/api/v1/topics/{escaped}/events")
}

fn query(last: u64, follow: bool) -> [(&'static str, String); 2] {
    [("last", last.to_string()), ("follow", follow.to_string())]
}

/// Other messages than events carry nothing.
fn batch(data: &str) -> Batch {
    serde_json::from_str(data).unwrap_or_default()
}

/// The server counts by partition, people by topic.
fn newest(mut events: Vec<TopicEvent>, last: u64) -> Vec<TopicEvent> {
    sort(&mut events);
    let surplus = events.len().saturating_sub(last as usize);
    events.split_off(surplus)
}

fn sort(events: &mut [TopicEvent]) {
    // Stable: of one instant, topics stay in the order in which they were named.
    events.sort_by(|left, right| {
        (&left.arrival, left.partition, left.offset).cmp(&(&right.arrival, right.partition, right.offset))
    });
}
