//! Writers that commit as fast as they can until somebody kills them: `writers MANIFEST COUNT`. Each commit that was
//! acknowledged is a line, `<writer> <commits>`.

use anyhow::{Context as _, Result, bail};
use tests::writers::commit_for_ever;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [manifest, count] = &arguments[..] else { bail!("writers MANIFEST COUNT") };
    let text = std::fs::read_to_string(manifest).with_context(|| format!("failed to read {manifest}"))?;
    let Ok(checked) = crds::check(&text, &[]) else { bail!("{manifest} has mistakes") };
    let checked = &checked;
    std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..count.parse()?).map(|number| scope.spawn(move || commit_for_ever(checked, number))).collect();
        writers.into_iter().try_for_each(|writer| writer.join().unwrap_or_else(|_| bail!("a writer panicked")))
    })
}
