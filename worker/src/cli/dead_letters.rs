//! `clickstream dead-letters list|show|replay`: what could not be counted, and how it is counted after all.

mod show;

use std::{fs, process::ExitCode};

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{
    Mistake,
    place::{Place, Where},
};
use crate::{
    dead_letters::{
        DeadLetterDetail, DeadLetterError, DeadLetterPage, DeadLetterQuery, DeadLetterView, DeadLetters, ReplayReport,
        ReplayRequest, Watermarks, watermarks,
    },
    run::Unowned,
    store::Reader,
    tell,
};

/// Arguments of `dead-letters`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List them, the newest first, and how many there are by reason.
    List(List),
    /// Show one: where it came from, why it was refused, its bytes.
    Show(Show),
    /// Repair some and send them through the pipeline again, as corrections.
    Replay(Replay),
}

#[derive(clap::Args, Debug)]
struct List {
    #[command(flatten)]
    at: Where,
    /// Only letters of this stream.
    #[arg(long)]
    stream: Option<String>,
    /// Only letters with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// How they are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns under each other, for people.
    Table,
    /// An array of objects.
    Json,
    /// An object a line.
    Jsonl,
    /// Fields with a header, as spreadsheets read them.
    Csv,
}

#[derive(clap::Args, Debug)]
struct Show {
    /// Its number in the list.
    id: String,
    #[command(flatten)]
    at: Where,
    /// Only the record's bytes, as they are.
    #[arg(long)]
    raw: bool,
}

#[derive(clap::Args, Debug)]
struct Replay {
    /// Letters by their numbers.
    #[arg(value_name = "ID", conflicts_with_all = ["stream", "reason", "all"])]
    ids: Vec<String>,
    #[command(flatten)]
    at: Where,
    /// Letters of this stream.
    #[arg(long)]
    stream: Option<String>,
    /// Letters with this reason.
    #[arg(long)]
    reason: Option<String>,
    /// All letters that streams refused.
    #[arg(long)]
    all: bool,
    /// Repair a field: an SQL expression over the record's fields; `raw.price` is the text that stands there.
    #[arg(long = "set", short = 's', value_name = "FIELD=EXPRESSION")]
    set: Vec<String>,
    /// A whole record in place of the letter that is named; `@FILE` reads it from a file.
    #[arg(long, value_name = "JSON")]
    json: Option<String>,
    /// Only tell what would happen.
    #[arg(long)]
    dry_run: bool,
}

/// Does it.
///
/// # Errors
/// Where the request is wrong, there is no pipeline, or its log failed.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list(&args),
        Command::Show(args) => show_one(&args),
        Command::Replay(args) => replay(args),
    }
}

fn list(args: &List) -> anyhow::Result<ExitCode> {
    let (stream, reason) = (args.stream.clone(), args.reason.clone());
    let page: DeadLetterPage = match args.at.find()? {
        Place::Directory(unowned) => {
            let query = DeadLetterQuery { stream, reason, limit: args.limit };
            open(&unowned)?.list(&query, u64::MAX).map_err(told)?
        }
        #[cfg(feature = "fleet")]
        Place::Fleet(fleet) => {
            over(&fleet).list(&DeadLetterQuery { stream, reason, limit: args.limit }, u64::MAX).map_err(told)?
        }
        Place::Server(client) => {
            let mut query = vec![("limit", args.limit.to_string())];
            query.extend(stream.map(|stream| ("stream", stream)));
            query.extend(reason.map(|reason| ("reason", reason)));
            client.get("/api/v1/dead-letters", &query)?
        }
    };
    let text = match args.format {
        Format::Table => show::table(&page),
        Format::Json => json_of(&page.letters)?,
        Format::Jsonl => {
            page.letters.iter().map(|letter| Ok(json!(letter).to_string() + "\n")).collect::<anyhow::Result<_>>()?
        }
        Format::Csv => show::csv(&page.letters),
    };
    print(text.as_bytes())
}

fn json_of(letters: &[DeadLetterView]) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(letters).context("failed to write JSON")? + "\n")
}

fn show_one(args: &Show) -> anyhow::Result<ExitCode> {
    let unknown = || Mistake(format!("there is no dead letter {}; `dead-letters list` shows their numbers", args.id));
    let number: u64 = args.id.parse().map_err(|_| unknown())?;
    let letter: DeadLetterDetail = match args.at.find()? {
        Place::Directory(unowned) => open(&unowned)?.get(number).map_err(told)?.ok_or_else(unknown)?,
        #[cfg(feature = "fleet")]
        Place::Fleet(fleet) => over(&fleet).get(number).map_err(told)?.ok_or_else(unknown)?,
        Place::Server(client) => client.get(&format!("/api/v1/dead-letters/{number}"), &[])?,
    };
    if args.raw { print(&letter.bytes()) } else { print(show::detail(&letter).as_bytes()) }
}

fn replay(args: Replay) -> anyhow::Result<ExitCode> {
    let Replay { ids, at, stream, reason, all, set, json, dry_run } = args;
    let json = json.map(record).transpose()?;
    let request = ReplayRequest { ids, stream, reason, all, set, json, dry_run };
    let report: ReplayReport = match at.find()? {
        Place::Directory(unowned) => {
            let marks = watermarks(&Reader::open(&unowned.path.join("tables.db"))?)?;
            let report = open(&unowned)?.replay(&request, &marks).map_err(told)?;
            unowned.log.sync()?;
            if !dry_run && report.repaired > 0 {
                let directory = unowned.path.display();
                tell::line(&format!("the next `clickstream run --data-dir {directory}` counts them"));
            }
            report
        }
        // Which tables come too late is for those to tell who have the tables.
        #[cfg(feature = "fleet")]
        Place::Fleet(fleet) => over(&fleet).replay(&request, &Watermarks::new()).map_err(told)?,
        Place::Server(client) => client.post("/api/v1/dead-letters/replay", &request)?,
    };
    print(show::report(&report).as_bytes())
}

/// A record from the command line, or from a file.
fn record(text: String) -> anyhow::Result<String> {
    match text.strip_prefix('@') {
        Some(file) => fs::read_to_string(file).map_err(|error| Mistake(format!("--json @{file}: {error}")).into()),
        None => Ok(text),
    }
}

fn open(unowned: &Unowned) -> anyhow::Result<DeadLetters> {
    Ok(DeadLetters::new(unowned.log.clone(), unowned.plan.clone())?)
}

#[cfg(feature = "fleet")]
fn over(fleet: &crate::kafka::tailing::Fleet) -> DeadLetters {
    DeadLetters::over(crate::kafka::letters::KafkaLetters(fleet.clone()), std::sync::Arc::clone(&fleet.plan))
}

fn told(error: DeadLetterError) -> anyhow::Error {
    match error {
        DeadLetterError::Mistake(told) => Mistake(told).into(),
        error => error.into(),
    }
}

fn print(text: &[u8]) -> anyhow::Result<ExitCode> {
    tell::out(text)?;
    Ok(ExitCode::SUCCESS)
}
