//! What a manifest asks to be deleted together with its pipeline, in so many words. Nothing is by default.

use super::{Couchbase, DeletionPolicy, ManagementPolicy, PipelineSpec, Sink};

impl PipelineSpec {
    /// Whether what the pipeline made for itself goes with it: its own topics, and the collections of its tables.
    #[must_use]
    pub fn deletes_its_own(&self) -> bool {
        self.deletion_policy == DeletionPolicy::Delete
    }

    /// Topics of the manifest that go with the pipeline. One that is only looked at stays whatever is said, one that was
    /// there before unless its own entry says so.
    #[must_use]
    pub fn topics_to_delete(&self) -> Vec<&str> {
        let goes = self.topics.iter().filter(|topic| match topic.deletion_policy {
            _ if topic.management_policy == ManagementPolicy::Observe => false,
            Some(said) => said == DeletionPolicy::Delete,
            None => self.deletes_its_own() && !topic.adopt,
        });
        goes.map(|topic| topic.name.as_str()).collect()
    }

    /// Sinks whose collections go with the pipeline, with their store. The bucket stays: others may be in it.
    #[must_use]
    pub fn collections_to_delete(&self) -> Vec<(&Sink, &Couchbase)> {
        let sinks = self.sinks.iter().filter(|_| self.deletes_its_own());
        sinks.filter_map(|sink| Some((sink, sink.couchbase.as_ref()?))).collect()
    }

    /// Whether anything goes with the pipeline.
    #[must_use]
    pub fn asks_to_delete(&self) -> bool {
        self.deletes_its_own() || !self.topics_to_delete().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Topic;

    #[test]
    fn only_what_is_asked_for_in_so_many_words_goes() {
        type Row = (DeletionPolicy, Option<DeletionPolicy>, ManagementPolicy, bool, bool);
        use DeletionPolicy::{Delete, Retain};
        use ManagementPolicy::{Manage, Observe};
        let rows: [Row; 8] = [
            (Retain, None, Manage, false, false),
            (Retain, Some(Delete), Manage, false, true),
            (Retain, Some(Delete), Observe, false, false),
            (Delete, None, Manage, false, true),
            (Delete, None, Manage, true, false),
            (Delete, Some(Delete), Manage, true, true),
            (Delete, Some(Retain), Manage, false, false),
            (Delete, None, Observe, false, false),
        ];
        for (all, said, management_policy, adopt, goes) in rows {
            let topic: Topic = serde_json::from_value(serde_json::json!({"name": "t"})).unwrap();
            let topic = Topic { deletion_policy: said, management_policy, adopt, ..topic };
            let spec = PipelineSpec { deletion_policy: all, topics: vec![topic], ..PipelineSpec::default() };
            assert_eq!(!spec.topics_to_delete().is_empty(), goes, "{all:?} {said:?} {management_policy:?} {adopt}");
            assert_eq!(spec.asks_to_delete(), goes || all == Delete);
        }
    }
}
