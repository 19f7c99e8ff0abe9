//! `clickstream query`: rows of a table, or any SQL, from a running pipeline or a data directory.

pub(super) mod render;
mod source;

use std::{path::PathBuf, process::ExitCode};

use clap::ValueEnum;

use self::source::{Question, Source};
use crate::tell;

/// Arguments of `query`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The table; without it and without --sql, the tables are listed.
    table: Option<String>,
    /// Any statement of SQLite's SQL that asks; decimals are doubles there.
    #[arg(long, value_name = "STATEMENT", conflicts_with_all = ["table", "condition", "order", "offset"])]
    sql: Option<String>,
    /// Only rows for which this holds, in SQL.
    #[arg(long = "where", value_name = "CONDITION", requires = "table")]
    condition: Option<String>,
    /// Columns to sort by, each with asc or desc: 'total_sales desc, category'. Newest windows first unless said.
    #[arg(long, value_name = "COLUMNS", requires = "table")]
    order: Option<String>,
    /// At most so many rows; 0 for all.
    #[arg(long, default_value_t = 1_000)]
    limit: u64,
    /// Rows to pass over.
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Read the data directory of a pipeline, whether it runs or not.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    data_dir: Option<PathBuf>,
    /// Ask the pipeline that answers here.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
}

/// How rows are written.
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

/// Answers the question on stdout; what is worth knowing beside it goes to stderr.
///
/// # Errors
/// When the question is wrong, or nobody answers.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let source = match &args.data_dir {
        Some(directory) => Source::open(directory)?,
        None => Source::connect(&args.url),
    };
    let limit = if args.limit == 0 { u64::MAX - 1 } else { args.limit };
    let question = match (args.sql, args.table) {
        (Some(sql), _) => Question::Sql { sql, limit },
        (None, Some(table)) => {
            Question::Table { table, condition: args.condition, order: args.order, limit, offset: args.offset }
        }
        (None, None) => Question::Tables,
    };
    if args.format == Format::Csv {
        tell::out(&source.csv(&question)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = source.lines(&question)?;
    let text = match args.format {
        Format::Json => render::array(&answer.lines),
        Format::Jsonl => answer.lines,
        Format::Table | Format::Csv => render::table(&answer.lines).into_bytes(),
    };
    tell::out(&text)?;
    if answer.more {
        tell::line(&format!("there are more rows than these {}; --limit 0 shows all", args.limit));
    }
    Ok(ExitCode::SUCCESS)
}
