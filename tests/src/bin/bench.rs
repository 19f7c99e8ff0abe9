//! Prints the project's numbers: `cargo run --release -p tests --bin bench -- [NAME…] [--events N] [--runs N]`.
//!
//! Names: `w2`, `sessions`, `funnel`, `join`, `expressions`, `memory`, `restore`, `run`, `query`, `hot`, and on a real
//! broker `fleet`, `fleet-sessions`, `ingest`, `collector`, `latency`, `recovery`; all of them without a name. `generate FILE` writes W2's events instead,
//! `checkpoints FOLDER` what this version's checkpoints look like, for `tests/golden`. Figures are CPU seconds
//! per million events unless said otherwise, medians of several alternating runs; every run's answer is checked.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use engine::{output::Source, plan::Plan};
use tests::{
    bench::{
        collector,
        drive::{self, End, Measured},
        fleet::Fleet,
        generator::{self, Records},
        latency,
        limit::Limit,
        meter, product, state, verify,
    },
    golden,
    pipeline::{self, context},
};

const NAMES: [&str; 16] = [
    "w2",
    "sessions",
    "funnel",
    "join",
    "expressions",
    "memory",
    "restore",
    "run",
    "query",
    "hot",
    "fleet",
    "fleet-sessions",
    "ingest",
    "collector",
    "latency",
    "recovery",
];

/// Partitions of the topic in which one group is hot, and how many of a hundred events it has.
const HOT: (u32, u64) = (12, 20);

fn main() -> ExitCode {
    match Options::parse().and_then(|options| options.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    names: Vec<String>,
    events: u64,
    runs: usize,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self { names: Vec::new(), events: 5_000_000, runs: 3 };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--events" => options.events = arguments.next().context("--events needs a number")?.parse()?,
                "--runs" => options.runs = arguments.next().context("--runs needs a number")?.parse()?,
                name => options.names.push(name.to_owned()),
            }
        }
        Ok(options)
    }

    fn run(&self) -> Result<()> {
        if let [first, file] = self.names.as_slice()
            && first == "generate"
        {
            return product::write_events(file.as_ref(), self.events);
        }
        if let [first, folder] = self.names.as_slice()
            && first == "checkpoints"
        {
            let of = |(name, text): (&str, &str)| golden::record(text, &Path::new(folder).join(name));
            std::fs::create_dir_all(folder)?;
            return MANIFESTS.into_iter().try_for_each(of);
        }
        let all = self.names.is_empty();
        for name in if all { NAMES.map(str::to_owned).to_vec() } else { self.names.clone() } {
            match name.as_str() {
                "w2" => self.w2()?,
                "sessions" => self.against("sessions", 1.5)?,
                "funnel" => self.against("funnel", 1.5)?,
                "join" => self.against("join", 1.5)?,
                "expressions" => self.expressions()?,
                "memory" => self.memory()?,
                "restore" => self.restore()?,
                "run" => product::run(self.events)?,
                "fleet" => Fleet::start(self.events)?.w2(self.runs)?,
                "fleet-sessions" => Fleet::start(self.events)?.sessions(self.runs)?,
                "ingest" => Fleet::start(self.events)?.synthetic(self.runs)?,
                "query" => product::query_times()?,
                "hot" => self.hot()?,
                "collector" => collector::collector()?,
                "latency" => latency::latency()?,
                "recovery" => latency::recovery()?,
                other => bail!("no benchmark {other:?}; there are {}", NAMES.join(", ")),
            }
        }
        Ok(())
    }

    /// The engine and the limit program in turns over the same bytes.
    fn w2(&self) -> Result<()> {
        let plan = plan("w2")?;
        let records = generator::events(self.events, 1);
        let bytes = records[0].bytes.len() as f64 / self.events as f64;
        let (mut engine, mut limit) = (Vec::new(), Vec::new());
        for _ in 0..self.runs {
            let before = meter::cpu();
            let mut program = Limit::default();
            program.run(&records[0]);
            limit.push(self.per_million(meter::cpu() - before));
            let measured = measure(&plan, &[(SOURCE, &records[0])], End::Closed)?;
            engine.push(self.per_million(measured.cpu));
            verify::same_tables(&measured.rows, &program).map_err(anyhow::Error::msg)?;
        }
        let (engine, limit) = (meter::median(engine), meter::median(limit));
        print("w2: events", self.events as f64, &format!("of {bytes:.0} bytes"));
        print("w2: limit program", limit, "");
        print("w2: engine", engine, "reach ≤ 0.9");
        print("w2: engine's speed by the limit's", limit / engine, "reach ≥ 0.6");
        Ok(())
    }

    fn against(&self, name: &str, reach: f64) -> Result<()> {
        let plan = plan(name)?;
        verify::same_as_reference(&plan, &context()).map_err(anyhow::Error::msg)?;
        let records = generator::events(self.events, 1);
        let promotions = generator::promotions(self.events);
        let promoted = Source { topic: 1, partition: 0 };
        let feeds = [(SOURCE, &records[0]), (promoted, &promotions)];
        let feeds = &feeds[..plan.topics.len()];
        let mut figures = Vec::new();
        for _ in 0..self.runs {
            let measured = measure(&plan, feeds, End::Closed)?;
            figures.push(self.per_million(measured.cpu));
        }
        print(&format!("{name}: engine"), meter::median(figures), &format!("reach ≤ {reach}"));
        Ok(())
    }

    fn expressions(&self) -> Result<()> {
        let (with, without) = (plan("expressions")?, plan("w2")?);
        verify::same_as_reference(&with, &context()).map_err(anyhow::Error::msg)?;
        let records = generator::events(self.events, 1);
        let mut costs = Vec::new();
        for _ in 0..self.runs {
            let without = measure(&without, &[(SOURCE, &records[0])], End::Closed)?;
            let with = measure(&with, &[(SOURCE, &records[0])], End::Closed)?;
            costs.push(self.per_million(with.cpu) - self.per_million(without.cpu));
        }
        print("expressions: a where and two derived fields", meter::median(costs), "reach ≤ 0.15");
        Ok(())
    }

    /// Memory of MERGE for each open group, and of MAP for each remembered id.
    fn memory(&self) -> Result<()> {
        let plan = plan("memory")?;
        let events = self.events.min(1_000_000);
        let records = generator::events(events, 1);
        let before = meter::resident_bytes();
        let measured = measure(&plan, &[(SOURCE, &records[0])], End::Open)?;
        let groups = measured.merges.iter().flat_map(|merge| merge.groups()).sum::<usize>().max(1);
        drop(measured.rows);
        let used = meter::resident_bytes().saturating_sub(before);
        drop(measured.merges);
        print("memory: open groups", groups as f64, "");
        print("memory: bytes of an open group of two counters", used as f64 / groups as f64, "reach ≤ 200");
        let (ids, bytes) = state::remembered_ids(&plan, &context(), &records[0]);
        print("memory: remembered ids", ids as f64, "");
        print("memory: bytes of a remembered id", bytes as f64 / ids.max(1) as f64, "reach ≤ 24");
        Ok(())
    }

    /// Seconds to restore a million groups.
    fn restore(&self) -> Result<()> {
        let plan = plan("memory")?;
        let records = generator::events(self.events.min(1_020_000), 1);
        let measured = measure(&plan, &[(SOURCE, &records[0])], End::Open)?;
        let (groups, seconds) = state::restore(&plan, measured.merges).map_err(anyhow::Error::msg)?;
        print("restore: groups", groups as f64, "");
        print("restore: seconds", seconds, "reach < 2");
        Ok(())
    }

    /// The task that works most, where one group has a fifth of the events, and without.
    fn hot(&self) -> Result<()> {
        let (partitions, percent) = HOT;
        let text = product::w2_over("hot", "localhost:9092", ("events", partitions), "");
        let plan = pipeline::plan(&text).map_err(anyhow::Error::msg)?;
        for percent in [0, percent] {
            let records = generator::events_with_hot_product(self.events, partitions as usize, percent);
            let source = |partition: usize| Source { topic: 0, partition: partition as u32 };
            let feeds: Vec<_> = records.iter().enumerate().map(|(at, records)| (source(at), records)).collect();
            let measured = measure(&plan, &feeds, End::Closed)?;
            for (stage, cpu) in [("MAP", &measured.map_cpu), ("MERGE", &measured.merge_cpu)] {
                let all: f64 = cpu.iter().map(Duration::as_secs_f64).sum();
                let most = cpu.iter().map(Duration::as_secs_f64).fold(0.0, f64::max);
                let what = format!("hot: {percent} % in one group: {stage}'s busiest by the mean");
                print(&what, most * cpu.len() as f64 / all, if percent > 0 { "reach ≤ 1.5" } else { "" });
            }
        }
        Ok(())
    }

    fn per_million(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() / (self.events as f64 / 1e6)
    }
}

const SOURCE: Source = Source { topic: 0, partition: 0 };

fn measure(plan: &Arc<Plan>, feeds: &[(Source, &Records)], end: End) -> Result<Measured> {
    drive::run(plan, &context(), feeds, end).context("the engine cannot read its own messages")
}

const MANIFESTS: [(&str, &str); 7] = [
    ("w2", include_str!("../../benches/w2.yaml")),
    ("sessions", include_str!("../../benches/sessions.yaml")),
    ("funnel", include_str!("../../benches/funnel.yaml")),
    ("join", include_str!("../../benches/join.yaml")),
    ("expressions", include_str!("../../benches/expressions.yaml")),
    ("memory", include_str!("../../benches/memory.yaml")),
    ("aggregates", include_str!("../../benches/aggregates.yaml")),
];

/// Reads a manifest of `tests/benches`.
fn plan(name: &str) -> Result<Arc<Plan>> {
    let (_, text) = MANIFESTS.iter().find(|(found, _)| *found == name).context("no such manifest")?;
    pipeline::plan_of_one(text).map_err(anyhow::Error::msg)
}

fn print(what: &str, figure: f64, note: &str) {
    println!("{what:<52} {figure:>14.3}  {note}");
}
