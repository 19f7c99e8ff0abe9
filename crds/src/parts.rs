//! Parts of a manifest: what it defines, as numbers that change with the meaning, and a manifest of some of its tables.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    check::{API_VERSION, Checked, KIND, Manifest},
    lower::fingerprint,
    spec::{PipelineSpec, Stream},
};

/// What a manifest defines. A number changes when rows of the table, or the accounts of the stream, may become others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definitions {
    /// Tables, with everything upstream of them and the alerts on them.
    pub tables: BTreeMap<String, u64>,
    /// Streams that read topics.
    pub streams: BTreeMap<String, u64>,
}

impl Checked {
    /// What the manifest defines.
    #[must_use]
    pub fn definitions(&self) -> Definitions {
        let spec = &self.manifest.spec;
        let tables = self.plan.tables.iter().map(|table| (table.name.clone(), table.fingerprint));
        let read = spec.streams.iter().filter(|stream| stream.join.is_none());
        let streams = read.map(|stream| (stream.name.clone(), fingerprint::of_stream(stream, spec)));
        Definitions { tables: tables.collect(), streams: streams.collect() }
    }
}

/// A manifest as JSON, which is YAML too.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Named<'a>,
    spec: &'a PipelineSpec,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

impl Manifest {
    /// The manifest as text that [`crate::check`] reads, with overrides and defaults in it.
    ///
    /// # Panics
    /// Never: a spec is maps with text keys, lists and scalars.
    #[must_use]
    pub fn text(&self) -> String {
        let (api_version, kind, metadata) = (API_VERSION, KIND, Named { name: &self.name });
        let whole = Written { api_version, kind, metadata, spec: &self.spec };
        serde_json::to_string_pretty(&whole).expect("a spec is maps with text keys, lists and scalars")
    }

    /// The manifest of these tables and streams alone, and of what they are made from: what one epoch computes. Ingesters
    /// and databases are left out; accepted events leave for the given streams only.
    #[must_use]
    pub fn part(&self, tables: &BTreeSet<String>, streams: &BTreeSet<String>, shuffle_partitions: u32) -> Self {
        let mut spec = self.spec.clone();
        spec.tables.retain(|table| tables.contains(&table.name));
        let needed = needed(&spec, streams);
        spec.streams.retain(|stream| needed.contains(&stream.name));
        spec.alerts.retain(|alert| tables.contains(&alert.table));
        for sink in &mut spec.sinks {
            sink.tables.clear();
            sink.topics.clear();
            sink.streams.retain(|stream| streams.contains(stream));
        }
        spec.sinks.retain(|sink| !sink.streams.is_empty());
        spec.ingest.clear();
        spec.tests.clear();
        spec.schedules.clear();
        spec.objectives = None;
        spec.process.shuffle_partitions = Some(shuffle_partitions);
        Self { name: self.name.clone(), spec }
    }

    /// Takes over from a later manifest what changes no row: how often rows leave, how many partitions topics have.
    pub fn follow(&mut self, later: &Self) {
        for table in &mut self.spec.tables {
            let same = later.spec.tables.iter().find(|other| other.name == table.name);
            same.into_iter().for_each(|later| table.emit = later.emit.clone());
        }
        for topic in &mut self.spec.topics {
            let same = later.spec.topics.iter().find(|other| other.name == topic.name);
            same.into_iter().for_each(|later| topic.partitions = topic.partitions.max(later.partitions));
        }
        self.spec.kafka.clone_from(&later.spec.kafka);
        self.spec.process = crate::spec::Process {
            shuffle_partitions: self.spec.process.shuffle_partitions,
            ..later.spec.process.clone()
        };
    }
}

/// The given streams, those that tables are made from, and the sides of joins.
fn needed(spec: &PipelineSpec, streams: &BTreeSet<String>) -> BTreeSet<String> {
    let read = spec.tables.iter().map(|table| table.from.clone());
    let mut needed: BTreeSet<String> = read.chain(streams.iter().cloned()).collect();
    let joins = |stream: &&Stream| needed.contains(&stream.name);
    let sides = spec.streams.iter().filter(joins).filter_map(|stream| stream.join.as_ref());
    let sides: Vec<String> = sides.flat_map(|join| [join.left.clone(), join.right.clone()]).collect();
    needed.extend(sides);
    needed
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::check;

    fn examples() -> Vec<Checked> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let yaml = files.filter(|path| path.extension().is_some_and(|ending| ending == "yaml"));
        let examples: Vec<_> = yaml.map(|path| check(&fs::read_to_string(path).unwrap(), &[]).unwrap()).collect();
        assert!(examples.len() >= 5, "{}", examples.len());
        examples
    }

    #[test]
    fn a_manifest_that_is_written_down_says_the_same() {
        for checked in examples() {
            let again = check(&checked.manifest.text(), &[]).unwrap_or_else(|problems| panic!("{problems:#?}"));
            assert_eq!(again.plan, checked.plan);
        }
    }

    #[test]
    fn every_table_stands_alone_under_the_same_number() {
        for checked in examples() {
            let whole = checked.definitions();
            for (name, number) in &whole.tables {
                let alone = [name.clone()].into();
                let part = checked.manifest.part(&alone, &BTreeSet::new(), checked.plan.shuffle_partitions);
                let part = check(&part.text(), &[]).unwrap_or_else(|problems| panic!("{name}: {problems:#?}"));
                assert_eq!(part.definitions().tables, [(name.clone(), *number)].into());
            }
        }
    }

    #[test]
    fn a_number_changes_with_the_meaning_and_with_nothing_else() {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/medallion.yaml")).unwrap();
        let before = check(&text, &[]).unwrap().definitions();
        let changed = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
            let after = check(&text, &set).unwrap_or_else(|problems| panic!("{problems:#?}")).definitions();
            let other = |(name, number): (&String, &u64)| (before.tables[name] != *number).then(|| name.clone());
            after.tables.iter().filter_map(other).collect::<Vec<_>>()
        };
        let any = &check(&text, &[]).unwrap().manifest.spec;
        let table = &any.tables[0].name;
        assert_eq!(changed(&[("process.replicas", "5")]), [""; 0]);
        assert_eq!(changed(&[(&format!("tables.{table}.emit.every"), "9s")]), [""; 0]);
        assert_eq!(changed(&[(&format!("tables.{table}.where"), "1 = 1")]), [table.as_str()]);
        assert_eq!(changed(&[("process.shufflePartitions", "7")]).len(), before.tables.len());
    }
}
