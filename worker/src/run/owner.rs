//! Whose a data directory is: a process that runs on it and answers over HTTP, or nobody's.

use std::{fs, path::Path, path::PathBuf, sync::Arc};

use anyhow::Context;
use crds::Checked;
use engine::plan::Plan;

use super::data_dir::{ADDRESS, MANIFEST, fingerprint, owner};
use crate::{
    cli::Mistake,
    driver::Layout,
    log::{EmbeddedLog, Fsync, OpenError, SharedLog},
};

/// Who has a data directory.
pub enum Owner {
    /// A process, which answers at this address.
    Process(String),
    /// Nobody: it is open for us now.
    Nobody(Box<Unowned>),
}

/// A data directory that no process runs on.
pub struct Unowned {
    /// Where it is.
    pub path: PathBuf,
    /// The log in it.
    pub log: SharedLog,
    /// What filled it.
    pub plan: Arc<Plan>,
}

/// Opens a data directory, or finds the process that has it.
///
/// # Errors
/// A [`Mistake`] where there is no pipeline; else what the system says.
pub fn visit(path: &Path) -> anyhow::Result<Owner> {
    let place = path.display();
    let file = path.join(MANIFEST);
    if !file.is_file() {
        return Err(Mistake(format!("{place} is no data directory: `clickstream run --data-dir` makes one")).into());
    }
    let text = fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
    let Checked { manifest, plan, .. } = crds::check(&text, &[]).map_err(|problems| {
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Mistake(format!("{} was written by another version of clickstream: {}", file.display(), told.join("; ")))
    })?;
    let mut specs = Layout::specs(&plan);
    specs.extend(Layout::passing(&plan, &manifest.spec.topics));
    let log = match EmbeddedLog::open(&path.join("log"), &specs, Fsync::Interval) {
        Err(OpenError::Locked(_)) => return running(path).map(Owner::Process),
        log => log?,
    };
    if log.remembered("owner")?.is_none_or(|found| found != owner(&manifest.name, fingerprint(&plan)).as_bytes()) {
        return Err(Mistake(format!("{} does not tell what the log in {place} holds", file.display())).into());
    }
    Ok(Owner::Nobody(Box::new(Unowned { path: path.into(), log: Arc::new(log), plan: Arc::new(plan) })))
}

/// The address that the process in `path` wrote down.
fn running(path: &Path) -> anyhow::Result<String> {
    let file = path.join(ADDRESS);
    let address = fs::read_to_string(&file).with_context(|| {
        format!("a process has {} and does not answer yet: try again, or name it with --url", path.display())
    })?;
    Ok(address.trim().to_owned())
}
