//! `clickstream generate FILE`: the manifest's synthetic events, as fast as the machine can.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use crds::spec::{Ingester, Synthetic};
use engine::time::Millis;

use super::{Mistake, manifest};
use crate::ingest::{
    self, IngestError,
    synthetic::generator::{Events, Generator},
};

/// Arguments of `clickstream generate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The manifest.
    pub file: PathBuf,
    /// Only this ingester; without it all synthetic ones, one after the other.
    #[arg(long, value_name = "NAME")]
    pub ingest: Option<String>,
    /// How many events of each, instead of what the manifest says.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Another seed: other events.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Time of the first event (RFC 3339); without it what the manifest says, or 2025-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub start: Option<Millis>,
    /// Where to, one event a line; without it the standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Overrides a field of the manifest: `-s ingest.shop.synthetic.seed=7`.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
}

/// Events between two writes: about two MiB.
const STEP: usize = 8_192;

/// Writes the events.
///
/// # Errors
/// Where the manifest is wrong, or the output cannot be written. A reader who has seen enough is no error.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checked = manifest::load(&args.file, &args.set)?;
    let chosen = choose(&checked.manifest.spec.ingest, args.ingest.as_deref())?;
    let directory = manifest::directory(&args.file);
    let mut generators = Vec::with_capacity(chosen.len());
    for (ingester, spec) in &chosen {
        generators.push(generator(&checked, ingester, spec, &args, &directory)?);
    }
    if let Some(at) = generators.iter().position(|(_, total)| total.is_none()).filter(|_| generators.len() > 1) {
        let name = &chosen[at].0.name;
        return Err(Mistake(format!("ingester {name} never ends; say --count N, or --ingest {name}")).into());
    }
    let place = args.output.as_ref().map_or_else(|| "the standard output".into(), |file| file.display().to_string());
    let written = match &args.output {
        Some(file) => {
            write_all(generators, &mut File::create(file).with_context(|| format!("failed to create {place}"))?)
        }
        None => write_all(generators, &mut io::stdout().lock()),
    };
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.map(|()| ExitCode::SUCCESS).with_context(|| format!("failed to write to {place}")),
    }
}

fn time(text: &str) -> Result<Millis, String> {
    engine::decode::timestamp(text.as_bytes()).ok_or_else(|| "expected a time such as 2025-01-01T00:00:00Z".into())
}

fn choose<'a>(ingesters: &'a [Ingester], only: Option<&str>) -> anyhow::Result<Vec<(&'a Ingester, &'a Synthetic)>> {
    let synthetic: Vec<_> = ingesters.iter().filter_map(|one| Some((one, one.synthetic.as_ref()?))).collect();
    let names = synthetic.iter().map(|(one, _)| one.name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen: Vec<_> = synthetic.into_iter().filter(|(one, _)| only.is_none_or(|name| one.name == name)).collect();
    match (chosen.is_empty(), names.is_empty(), only) {
        (false, ..) => Ok(chosen),
        (true, true, _) => Err(Mistake("the manifest has no synthetic ingester".into()).into()),
        (true, false, only) => {
            Err(Mistake(format!("there is no synthetic ingester {:?}; there are {names}", only.unwrap_or_default()))
                .into())
        }
    }
}

fn generator(
    checked: &crds::Checked,
    ingester: &Ingester,
    spec: &Synthetic,
    args: &Args,
    directory: &Path,
) -> anyhow::Result<(Generator, Option<u64>)> {
    let spec = Synthetic { seed: args.seed.unwrap_or(spec.seed), ..spec.clone() };
    let made = ingest::generator(checked, ingester, &spec, directory, args.start);
    let (generator, total) = made.map_err(|error| match error {
        IngestError::Manifest { .. } => anyhow::Error::from(Mistake(error.to_string())),
        other => other.into(),
    })?;
    Ok((generator, args.count.or(total)))
}

fn write_all(generators: Vec<(Generator, Option<u64>)>, out: &mut dyn Write) -> io::Result<()> {
    let (mut events, mut lines) = (Events::default(), Vec::new());
    for (mut generator, total) in generators {
        let total = total.unwrap_or(u64::MAX);
        while generator.next() < total {
            events.clear();
            lines.clear();
            generator.generate((total - generator.next()).min(STEP as u64) as usize, &mut events);
            for (payload, _) in events.iter() {
                lines.extend_from_slice(payload);
                lines.push(b'\n');
            }
            out.write_all(&lines)?;
        }
    }
    out.flush()
}
