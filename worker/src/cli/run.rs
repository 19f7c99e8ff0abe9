//! `clickstream run FILE`: the whole pipeline in one process.

use std::{io::IsTerminal as _, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::ValueEnum;
use crossbeam_channel::{Receiver, bounded};

use super::{Mistake, manifest};
use crate::{
    log::Fsync,
    run::{RunOptions, run as run_pipeline, run_now},
};

/// Arguments of `clickstream run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The manifest.
    pub file: PathBuf,
    /// Override a field: `-s path=value`; items of a list by their name.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Keep everything here, over restarts. Without it a temporary directory is used and removed at the end.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the dashboard and the API.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// End once every bounded source is read, every window is closed and every sink is written.
    #[arg(long)]
    pub until_done: bool,
    /// Bound endless sources: `60s`, `5m`.
    #[arg(long, value_name = "DURATION")]
    pub duration: Option<crds::spec::Duration>,
    /// Processing threads; as many as there are processors by default.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// When commits are forced to disk.
    #[arg(long, value_enum, default_value = "interval")]
    pub fsync: Fsync,
    /// Run this schedule of the manifest once, now, on what an earlier run left in --data-dir; exit code 1 if tables differ.
    #[arg(long, value_name = "SCHEDULE", conflicts_with_all = ["until_done", "duration"])]
    pub now: Option<String>,
    /// How the program's own log is written.
    #[arg(long, value_enum, default_value = "text")]
    pub log: LogFormat,
}

/// How the program's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Runs the pipeline until it ends or is told to.
///
/// # Errors
/// When the world fails: a port is taken, the data directory cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    start_logging(args.log);
    if !args.file.is_file() {
        return Err(Mistake(format!("there is no manifest {}", args.file.display())).into());
    }
    let checked = manifest::load(&args.file, &args.sets)?;
    let options = RunOptions {
        directory: manifest::directory(&args.file),
        data_dir: args.data_dir,
        listen: args.listen,
        until_done: args.until_done,
        duration: args.duration.map(crds::spec::Duration::to_std),
        threads: args.threads,
        fsync: args.fsync,
        terminal: std::io::stderr().is_terminal() && args.log == LogFormat::Text,
    };
    if let Some(schedule) = args.now {
        return Ok(ExitCode::from(u8::from(!run_now(&checked, &options, &schedule)?)));
    }
    run_pipeline(&checked, &options, &signals(None)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn start_logging(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => {
            crate::tell::as_json();
            builder.json().init();
        }
    }
}

/// How long a role may take to end in order. The operator lets pods have 45 s, two of which pass before they are told.
pub(super) const END_TIME_MAX: Duration = Duration::from_secs(30);

/// A message for the first Ctrl-C or SIGTERM; the second ends the process at once. Where the end must come within
/// [`END_TIME_MAX`], it comes then with exit code 0, and what may not be `finished` by then is told.
pub(super) fn signals(finished: Option<&'static str>) -> anyhow::Result<Receiver<()>> {
    let (sender, receiver) = bounded(1);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime for signals")?;
    let wait = move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            crate::tell::line("stopping; once more to stop at once");
            let _run_may_be_over = sender.send(());
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = tokio::time::sleep(END_TIME_MAX), if finished.is_some() => end_unfinished(finished.unwrap_or_default()),
            }
            std::process::exit(130);
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).context("no thread for signals")?;
    Ok(receiver)
}

/// Whatever somebody waits for does not come: brokers or a store are away. Nothing is lost by that.
fn end_unfinished(what: &str) -> ! {
    crate::tell::line(&format!(
        "ending after {} s without {what}: what is not committed does not count, and is recovered from the log, \
         positions and checkpoints at the next start",
        END_TIME_MAX.as_secs()
    ));
    std::process::exit(0)
}
