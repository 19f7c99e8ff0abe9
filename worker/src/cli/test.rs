//! `clickstream test FILE…`: the cases of manifests, and what must hold of them under every disturbance.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use crds::{Checked, spec::TestCase};

use super::{Mistake, manifest};
use crate::{
    cases::{Bench, CaseResult},
    run::lookups,
    tell,
};

/// The ending of a file of cases: `shop.tests.yaml` lies beside `shop.yaml`.
const BESIDE: &str = ".tests.yaml";

/// Arguments of `test`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Manifests with cases under `spec.tests`, or in a file `NAME.tests.yaml` beside them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Only cases whose names contain this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also say which disturbances each case went through, and which would be allowed to change it.
    #[arg(long, short)]
    verbose: bool,
    /// Overrides a field of the manifests: `-s process.replicas=4`.
    #[arg(short = 's', long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
}

/// Runs the cases; ends with exit code 1 if one fails.
///
/// # Errors
/// Where a manifest or a file of cases is wrong, or cannot be read.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for file in manifests(&args.files) {
        tell::result(&file.display().to_string())?;
        let (checked, cases) = load(&file, &args.set)?;
        let lookups = lookups::load(&checked.plan, &checked.manifest.spec, &manifest::directory(&file))?;
        let bench = Bench::new(&checked, lookups);
        let wanted = |case: &&TestCase| args.only.as_ref().is_none_or(|only| case.name.contains(only));
        let chosen: Vec<&TestCase> = cases.iter().filter(wanted).collect();
        if chosen.is_empty() {
            let told =
                format!("  no cases: write some under spec.tests, or into a file beside it that ends with {BESIDE}");
            tell::result(&told)?;
        }
        for case in chosen {
            let result = bench.run(&checked.manifest.spec, case);
            show(&result, args.verbose)?;
            *if result.passed() { &mut passed } else { &mut failed } += 1;
        }
    }
    tell::result(&format!("{passed} passed, {failed} failed"))?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// The manifests; a file of cases stands for the manifest beside it, and none is run twice.
fn manifests(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut manifests: Vec<PathBuf> = Vec::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let manifest = match name.strip_suffix(BESIDE) {
            Some(stem) => file.with_file_name(format!("{stem}.yaml")),
            None => file.clone(),
        };
        if !manifests.contains(&manifest) {
            manifests.push(manifest);
        }
    }
    manifests
}

/// A manifest with its cases, those inside first.
fn load(file: &Path, set: &[String]) -> anyhow::Result<(Checked, Vec<TestCase>)> {
    let checked = manifest::load(file, set)?;
    let mut cases = checked.manifest.spec.tests.clone();
    let beside = beside(file);
    if beside.is_file() {
        let text = fs::read_to_string(&beside).with_context(|| format!("failed to read {}", beside.display()))?;
        let manifest = fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
        let mut overrides = manifest::overrides(set)?;
        overrides.push(("tests".into(), text));
        let with_them = crds::check(&manifest, &overrides).map_err(|problems| {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Mistake(format!("{} is no list of cases\n{}", beside.display(), told.join("\n")))
        })?;
        cases.extend(with_them.manifest.spec.tests);
    }
    Ok((checked, cases))
}

fn beside(file: &Path) -> PathBuf {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    file.with_file_name(format!("{stem}{BESIDE}"))
}

fn show(result: &CaseResult, verbose: bool) -> io::Result<()> {
    tell::result(&format!("  {} {}", if result.passed() { "ok  " } else { "FAIL" }, result.name))?;
    for failure in &result.failures {
        failure.lines().try_for_each(|line| tell::result(&format!("         {line}")))?;
    }
    if verbose {
        for (variant, tries) in &result.varied {
            tell::result(&format!("         the same {variant} ({tries} runs)"))?;
        }
        for (variant, why) in &result.spared {
            tell::result(&format!("         not tried {variant}: {why}"))?;
        }
    }
    Ok(())
}
