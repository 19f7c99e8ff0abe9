//! What another spec means for data: which tables go on and which are rebuilt, what becomes of topics, what would go with the
//! pipeline. Pure; the objects of a cluster do not show it.

use std::collections::BTreeMap;

use crds::spec::{ManagementPolicy, PipelineSpec, Topic};

use crate::accepted::Accepted;

/// A line for each consequence of going from one spec to another; none where data does not mind.
#[must_use]
pub fn consequences(name: &str, before: &Accepted, after: &Accepted) -> Vec<String> {
    let mut told = definitions(name, before, after);
    told.extend(topics(&before.spec, &after.spec));
    let already = doomed(&before.spec);
    let newly = doomed(&after.spec).into_iter().filter(|what| !already.contains(what));
    told.extend(
        newly.map(|what| format!("{what}: its data will be deleted with the pipeline (deletionPolicy: Delete)")),
    );
    told
}

/// What becomes of tables, and of the accounts of streams, by the definitions that `clickstream setup` compares as well.
fn definitions(name: &str, before: &Accepted, after: &Accepted) -> Vec<String> {
    let old = crds::check(&before.manifest, &[]);
    let Ok(old) = old else { return Vec::new() };
    // What the manifest leaves open was settled when the pipeline began, and stays.
    let mut settled = after.spec.clone();
    settled.process.shuffle_partitions.get_or_insert(old.plan.shuffle_partitions);
    let Ok(new) = crds::check(&crate::accepted::manifest(name, &settled), &[]) else { return Vec::new() };
    let (old, new) = (old.definitions(), new.definitions());
    let mut told = fates("table", &old.tables, &new.tables, "its old rows are shown until it has caught up");
    told.extend(fates("accounts of stream", &old.streams, &new.streams, "the old ones are shown until then"));
    told
}

/// What is rebuilt, new and gone; and, where anything is, what goes on.
fn fates(what: &str, old: &BTreeMap<String, u64>, new: &BTreeMap<String, u64>, until: &str) -> Vec<String> {
    let fate = |(name, definition): (&String, &u64)| match old.get(name) {
        Some(before) if before == definition => None,
        Some(_) => Some(format!("{what} {name}: rebuilt from what topics still hold; {until}")),
        None => Some(format!("{what} {name}: computed from what topics still hold")),
    };
    let mut told: Vec<String> = new.iter().filter_map(fate).collect();
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    told.extend(gone.map(|name| format!("{what} {name}: no longer computed; what was written stays")));
    let goes_on = |(name, definition): &(&String, &u64)| old.get(*name) == Some(*definition);
    let kept: Vec<&str> = new.iter().filter(goes_on).map(|(name, _)| name.as_str()).collect();
    if !told.is_empty() && !kept.is_empty() {
        told.push(format!("{what} {}: goes on", kept.join(", ")));
    }
    told
}

/// What becomes of the topics that the pipeline looks after.
fn topics(before: &PipelineSpec, after: &PipelineSpec) -> Vec<String> {
    let ours = |topic: &&Topic| topic.management_policy == ManagementPolicy::Manage;
    let (old, new) = (before.topics.iter().filter(ours), after.topics.iter().filter(ours));
    let mut told = Vec::new();
    for topic in new {
        let name = &topic.name;
        match old.clone().find(|before| before.name == *name) {
            Some(before) => {
                told.extend(changes(before, topic).into_iter().map(|change| format!("topic {name}: {change}")))
            }
            None if topic.adopt => told.push(format!("topic {name}: taken over as it is, and set as said")),
            None => told.push(format!("topic {name}: made, with {} partitions", topic.partitions)),
        }
    }
    let gone = old.filter(|before| !after.topics.iter().any(|topic| topic.name == before.name));
    told.extend(gone.map(|topic| format!("topic {}: nobody looks after it any more; it stays", topic.name)));
    told
}

fn changes(before: &Topic, after: &Topic) -> Vec<String> {
    let mut told = Vec::new();
    if after.partitions > before.partitions {
        told.push(format!("grows from {} to {} partitions; keys move", before.partitions, after.partitions));
    }
    if let Some(kept) = after.retention.filter(|kept| before.retention != Some(*kept)) {
        let deletes =
            if before.retention.is_none_or(|before| kept < before) { "; what is older is deleted" } else { "" };
        let before = before.retention.map_or_else(|| "the brokers' default".to_owned(), |before| before.to_string());
        told.push(format!("keeps events for {kept} instead of {before}{deletes}"));
    }
    for (name, value) in after.config.iter().filter(|(name, value)| before.config.get(*name) != Some(*value)) {
        let before = before.config.get(name).map_or("what it is", String::as_str);
        told.push(format!("{name} becomes {value} instead of {before}"));
    }
    told
}

/// What goes with the pipeline.
fn doomed(spec: &PipelineSpec) -> Vec<String> {
    let topics = spec.topics_to_delete().into_iter().map(|topic| format!("topic {topic}"));
    let collections =
        spec.collections_to_delete().into_iter().map(|(sink, _)| format!("collections of sink {}", sink.name));
    let own = spec.deletes_its_own().then(|| "what it made for itself".to_owned());
    own.into_iter().chain(topics).chain(collections).collect()
}

#[cfg(test)]
mod tests {
    use crds::spec::DeletionPolicy;

    use super::*;
    use crate::accepted::{
        Verdict, judge,
        tests::{accepted, example},
    };

    fn after(change: impl Fn(&mut PipelineSpec)) -> Vec<String> {
        let mut spec = example("medallion").spec;
        change(&mut spec);
        match judge("medallion", &spec) {
            Verdict::Accept(changed) => consequences("medallion", &accepted("medallion"), &changed),
            Verdict::Refuse { message } => panic!("{message}"),
        }
    }

    #[test]
    fn what_does_not_touch_data_has_none() {
        assert_eq!(after(|_| {}), Vec::<String>::new());
        assert_eq!(after(|spec| spec.process.replicas += 1), Vec::<String>::new());
        assert_eq!(after(|spec| spec.sinks.retain(|sink| sink.name != "gold")), Vec::<String>::new());
    }

    #[test]
    fn a_changed_table_is_rebuilt_and_the_others_go_on() {
        let (first, second) =
            (example("medallion").spec.tables[0].name.clone(), example("medallion").spec.tables[1].name.clone());
        let told = after(|spec| {
            spec.tables[0].window.as_mut().unwrap().allowed_lateness = crds::spec::Duration::seconds(7);
        });
        assert!(told[0].starts_with(&format!("table {first}: rebuilt from what topics still hold")), "{told:?}");
        assert!(told.last().unwrap().contains(&second) && told.last().unwrap().ends_with("goes on"), "{told:?}");
        assert!(told.iter().all(|told| !told.contains("topic ") && !told.contains("stream")), "{told:?}");
        let told = after(|spec| spec.streams[0].rules.clear());
        assert!(told.iter().any(|told| told.starts_with("accounts of stream") && told.contains("rebuilt")), "{told:?}");
    }

    #[test]
    fn topics_that_grow_are_said_to_and_rebuild_nothing() {
        let topic = example("medallion").spec.topics[0].clone();
        let told = after(|spec| spec.topics[0].partitions += 3);
        let grows = format!(
            "topic {}: grows from {} to {} partitions; keys move",
            topic.name,
            topic.partitions,
            topic.partitions + 3
        );
        assert_eq!(told, [grows]);
    }

    #[test]
    fn what_deletes_events_or_would_is_said() {
        let name = example("medallion").spec.topics[0].name.clone();
        let told = after(|spec| spec.topics[0].retention = Some(crds::spec::Duration::seconds(60)));
        assert_eq!(told, [format!("topic {name}: keeps events for 1m instead of 7d; what is older is deleted")]);
        let told = after(|spec| spec.topics[0].retention = Some(crds::spec::Duration::seconds(8 * 86_400)));
        assert_eq!(told, [format!("topic {name}: keeps events for 8d instead of 7d")]);
        let told = after(|spec| drop(spec.topics[0].config.insert("cleanup.policy".into(), "compact".into())));
        assert!(told.len() == 1 && told[0].contains("cleanup.policy becomes compact"), "{told:?}");
        let told = after(|spec| spec.topics[0].deletion_policy = Some(DeletionPolicy::Delete));
        assert_eq!(
            told,
            [format!("topic {name}: its data will be deleted with the pipeline (deletionPolicy: Delete)")]
        );
        let told = after(|spec| spec.topics[0].management_policy = ManagementPolicy::Observe);
        assert_eq!(told, Vec::<String>::new(), "it is still there to be looked at");
    }
}
