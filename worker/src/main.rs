//! The `clickstream` program: finds the subcommand and gives it the rest. Nothing else belongs here.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use worker::cli;

/// One manifest, one command: from user events to live tables.
#[derive(Parser)]
#[command(name = "clickstream", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// What people do, in the order in which they come to it.
#[derive(Subcommand)]
enum Command {
    /// Run a whole pipeline in this process: ingesters, processing, tables, dashboard.
    Run(cli::run::Args),
    /// Check manifests and tell every problem.
    Validate(cli::validate::Args),
    /// Show what a manifest makes the machine do.
    Plan(cli::plan::Args),
    /// Run the cases of manifests: events in, rows out, also shuffled, repeated and cut by crashes.
    Test(cli::test::Args),
    /// Ask a running pipeline, or a data directory, for rows.
    Query(cli::query::Args),
    /// Show events of topics as they pass.
    Tail(cli::tail::Args),
    /// Show the partitions of a fleet's topics, how far each group has read them, and who owns what.
    #[cfg(feature = "fleet")]
    Topics(cli::topics::Args),
    /// Look at records that could not be counted, repair them, and count them after all.
    DeadLetters(cli::dead_letters::Args),
    /// Write the manifest's synthetic events.
    Generate(cli::generate::Args),
    /// A role of the fleet: bring events into Kafka.
    #[cfg(feature = "fleet")]
    Ingest(cli::ingest::Args),
    /// A role of the fleet: turn raw topics into changed rows.
    #[cfg(feature = "fleet")]
    Process(cli::process::Args),
    /// A role of the fleet: tell people of alerts.
    #[cfg(feature = "fleet")]
    Notify(cli::notify::Args),
    /// A role of the fleet: answer questions, show the dashboard.
    #[cfg(feature = "fleet")]
    Serve(cli::serve::Args),
    /// Compute tables of a fleet again beside the live ones, compare, and show them.
    #[cfg(feature = "fleet")]
    Replay(cli::replay::Args),
    /// Make and check what a fleet needs in Kafka.
    #[cfg(feature = "fleet")]
    Setup(cli::setup::Args),
    /// Write tables, events or raw records of a fleet to one destination.
    #[cfg(feature = "fleet")]
    Sink(cli::sink::Args),
}

fn main() -> ExitCode {
    // Clients of databases bring two providers of cryptography: say which.
    #[cfg(feature = "fleet")]
    rustls::crypto::ring::default_provider().install_default().expect("nothing was installed before");
    let result = match Arguments::parse().command {
        Command::Run(args) => cli::run::run(args),
        Command::Validate(args) => cli::validate::run(args),
        Command::Plan(args) => cli::plan::run(args),
        Command::Test(args) => cli::test::run(args),
        Command::Query(args) => cli::query::run(args),
        Command::Tail(args) => cli::tail::run(args),
        #[cfg(feature = "fleet")]
        Command::Topics(args) => cli::topics::run(args),
        Command::DeadLetters(args) => cli::dead_letters::run(args),
        Command::Generate(args) => cli::generate::run(args),
        #[cfg(feature = "fleet")]
        Command::Ingest(args) => cli::ingest::run(args),
        #[cfg(feature = "fleet")]
        Command::Process(args) => cli::process::run(args),
        #[cfg(feature = "fleet")]
        Command::Notify(args) => cli::notify::run(args),
        #[cfg(feature = "fleet")]
        Command::Serve(args) => cli::serve::run(args),
        #[cfg(feature = "fleet")]
        Command::Replay(args) => cli::replay::run(args),
        #[cfg(feature = "fleet")]
        Command::Setup(args) => cli::setup::run(args),
        #[cfg(feature = "fleet")]
        Command::Sink(args) => cli::sink::run(args),
    };
    result.unwrap_or_else(|error| cli::report(&error))
}
