//! `clickstream topics`: partitions of a fleet's topics, how far each group has read them, and who owns what.

use std::{collections::BTreeSet, fmt::Write as _, process::ExitCode};

use anyhow::Context;
use clap::ValueEnum;
use serde_json::json;

use super::manifest::ManifestArgs;
use crate::{
    kafka::{
        catalogue,
        client::Cluster,
        names::Names,
        overview::{PartitionOverview, overview},
        topics::wishes,
    },
    secrets::Secrets,
    tell,
};

/// Arguments of `clickstream topics`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// How they are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Columns under each other, for people.
    Table,
    /// One object.
    Json,
}

/// Prints them; a topic that is not there is told.
///
/// # Errors
/// Where the manifest is wrong, or no broker answers.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = args.manifest.load()?;
    let cluster = Cluster::of(&checked.manifest.spec, &Secrets::from_environment())?;
    let names = Names::new(&checked.manifest.name);
    let catalogue = catalogue::read(&cluster, &names)?;
    let checked = catalogue::settle(&catalogue, checked);
    let spec = &checked.manifest.spec;
    let epochs = catalogue::epochs(&catalogue.or_first(&checked)?, &checked)?;
    let topics: Vec<String> = wishes(&checked, &epochs).into_iter().map(|wish| wish.name).collect();
    let ingest = spec.ingest.iter().map(|ingester| names.ingest_group(&ingester.name));
    let sinks = spec.sinks.iter().map(|sink| names.sink_group(&sink.name));
    let process = epochs.iter().map(|epoch| epoch.names.process_group());
    let is_told = spec.alerts.iter().any(|alert| !alert.notify.is_empty());
    let notify = is_told.then(|| names.notify_group());
    let groups: Vec<String> = process.chain(ingest).chain(sinks).chain(notify).collect();
    let partitions = overview(&cluster, &topics, &groups)?;
    let there: BTreeSet<&str> = partitions.iter().map(|partition| partition.topic.as_str()).collect();
    for topic in topics.iter().filter(|topic| !there.contains(topic.as_str())) {
        tell::line(&format!("topic {topic} is not there; `clickstream setup` makes it"));
    }
    let text = match args.format {
        Format::Table => table(&partitions),
        Format::Json => {
            serde_json::to_string_pretty(&json!({ "partitions": partitions })).context("failed to write JSON")? + "\n"
        }
    };
    tell::out(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each group of a partition, or one for the partition alone.
fn table(partitions: &[PartitionOverview]) -> String {
    let mut rows = vec![["topic", "partition", "start", "end", "group", "offset", "lag", "owner"].map(String::from)];
    for at in partitions {
        let head = [at.topic.clone(), at.partition.to_string(), at.start.to_string(), at.end.to_string()];
        let row =
            |rest: [String; 4]| -> [String; 8] { std::array::from_fn(|n| [&head[..], &rest].concat()[n].clone()) };
        if at.groups.is_empty() {
            rows.push(row(["-"; 4].map(String::from)));
        }
        for group in &at.groups {
            let offset = group.offset.map_or_else(|| "-".into(), |offset| offset.to_string());
            let owner = group.owner.clone().unwrap_or_else(|| "-".into());
            rows.push(row([group.group.clone(), offset, group.lag.to_string(), owner]));
        }
    }
    let widths: [usize; 8] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(text, "{}", cells.join("  ").trim_end()).expect("a string takes all text");
    }
    text
}
