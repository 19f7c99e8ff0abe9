//! What is to be done about topics: facts and wishes in, steps out. No client here.

use std::{collections::BTreeMap, fmt};

use super::topics::{Care, TopicWish};

/// A topic as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFact {
    /// Number of partitions.
    pub partitions: u32,
    /// Copies of the partition that has the fewest.
    pub copies: u32,
    /// Settings that are in force.
    pub settings: BTreeMap<String, String>,
}

/// What is to be done about one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is not there: create it.
    Create(TopicWish),
    /// It has too few partitions: add some.
    Grow {
        /// The topic.
        name: String,
        /// What it has.
        from: u32,
        /// What it should have.
        to: u32,
    },
    /// Settings that the manifest or the pipeline names are others: set them, and nothing else.
    Alter {
        /// The topic.
        name: String,
        /// What is to be set.
        changes: Vec<Change>,
    },
    /// It has fewer copies than the manifest says: only a person can move it. Who runs already may go on.
    Copy {
        /// The topic.
        name: String,
        /// What it has.
        from: u32,
        /// What it should have.
        to: u32,
    },
    /// Only a person can put it right; nothing may run before.
    Refuse {
        /// The topic.
        name: String,
        /// What differs, and what to do about it.
        why: String,
    },
}

/// A setting of a topic that is to have another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Kafka's name for it.
    pub setting: String,
    /// What it is.
    pub from: String,
    /// What it should be.
    pub to: String,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(wish) => {
                write!(f, "create {} with {} partitions", wish.name, wish.partitions)?;
                wish.replication.iter().try_for_each(|copies| write!(f, " in {copies} copies"))?;
                let settings = wish.settings.iter().chain(&wish.at_first);
                settings.into_iter().try_for_each(|(name, value)| write!(f, ", {name}={value}"))
            }
            Self::Grow { name, from, to } => write!(f, "grow {name} from {from} to {to} partitions"),
            Self::Alter { name, changes } => {
                let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "set {name}: {}", told.join(", "))
            }
            Self::Copy { name, from, to } => {
                let plural = if *from == 1 { "y" } else { "ies" };
                write!(
                    f,
                    "{name}: has {from} cop{plural} of a partition, the manifest says {to}: add some by kafka-reassign-partitions"
                )
            }
            Self::Refuse { name, why } => write!(f, "{name}: {why}"),
        }
    }
}

impl Step {
    /// Whether only a person can do it.
    #[must_use]
    pub fn is_by_hand(&self) -> bool {
        matches!(self, Self::Copy { .. } | Self::Refuse { .. })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} (it is {})", self.setting, self.to, self.from)
    }
}

/// Decides, for all topics at once. A topic that is as it should be needs no step. The first wish is the mark of a pipeline
/// that was set up before: topics that are older than it are somebody else's.
#[must_use]
pub fn decide(wishes: &[TopicWish], facts: &BTreeMap<String, TopicFact>) -> Vec<Step> {
    let is_new = wishes.first().is_some_and(|mark| !facts.contains_key(&mark.name));
    let one = |wish: &TopicWish| match facts.get(&wish.name) {
        None if wish.care == Care::Observed => vec![missing(wish)],
        None => vec![Step::Create(wish.clone())],
        Some(_) if is_new && wish.care == Care::Managed => vec![foreign(wish)],
        Some(fact) => {
            partitions(wish, fact).into_iter().chain(copies(wish, fact)).chain(settings(wish, fact)).collect()
        }
    };
    wishes.iter().flat_map(one).collect()
}

fn missing(wish: &TopicWish) -> Step {
    let why = "is not there, and `managementPolicy: Observe` leaves it to others to create: let them, or say Manage";
    Step::Refuse { name: wish.name.clone(), why: why.into() }
}

fn foreign(wish: &TopicWish) -> Step {
    let why = "was there before this pipeline: say `adopt: true` to take it over, `managementPolicy: Observe` to only \
               look at it, or another name";
    Step::Refuse { name: wish.name.clone(), why: why.into() }
}

fn partitions(wish: &TopicWish, fact: &TopicFact) -> Option<Step> {
    let (name, from, to) = (wish.name.clone(), fact.partitions, wish.partitions);
    let why = match wish.care {
        _ if from == to => return None,
        Care::Shared => return None,
        Care::Adopted | Care::Managed if from < to => return Some(Step::Grow { name, from, to }),
        Care::Observed => {
            format!("has {from} partitions, the manifest says {to}; it is only looked at, so: say {from}")
        }
        Care::Adopted | Care::Managed => {
            format!("has {from} partitions, the manifest says {to}; partitions cannot be taken away: say {from}")
        }
        Care::Own => format!("has {from} partitions and needs {to}, which cannot change while it holds data"),
    };
    Some(Step::Refuse { name, why })
}

/// More copies than were asked for hurt nobody: brokers cannot be told another number, so whoever moved the topic knows why.
fn copies(wish: &TopicWish, fact: &TopicFact) -> Option<Step> {
    let to = u32::from(wish.replication?);
    let is_ours = matches!(wish.care, Care::Adopted | Care::Managed);
    (is_ours && fact.copies < to).then(|| Step::Copy { name: wish.name.clone(), from: fact.copies, to })
}

/// Settings that are only put right by hand: by the time that one is found wrong, records may be gone or have other stamps,
/// and somebody has to know.
const BY_HAND: [&str; 2] = ["cleanup.policy", "message.timestamp.type"];

fn settings(wish: &TopicWish, fact: &TopicFact) -> Vec<Step> {
    if matches!(wish.care, Care::Observed | Care::Shared) {
        return Vec::new();
    }
    let differs =
        |(name, value): &(&String, &String)| fact.settings.get(*name).is_some_and(|found| !is_same(found, value));
    let wrong = wish.settings.iter().filter(differs).map(|(name, value)| Change {
        setting: name.clone(),
        from: fact.settings[name].clone(),
        to: value.clone(),
    });
    let (by_hand, changes): (Vec<Change>, Vec<Change>) =
        wrong.partition(|change| BY_HAND.contains(&change.setting.as_str()));
    let name = || wish.name.clone();
    let alter = (!changes.is_empty()).then(|| Step::Alter { name: name(), changes });
    let refuse = (!by_hand.is_empty()).then(|| Step::Refuse { name: name(), why: only_by_hand(&wish.name, &by_hand) });
    alter.into_iter().chain(refuse).collect()
}

/// Whether two values mean the same to Kafka, which writes down what it understood.
fn is_same(left: &str, right: &str) -> bool {
    let listed = |text: &str| {
        let mut all: Vec<String> = text.split(',').map(|part| part.trim().to_lowercase()).collect();
        all.sort_unstable();
        all
    };
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|_| text.contains('.'));
    listed(left) == listed(right) || number(left).is_some_and(|left| number(right) == Some(left))
}

fn only_by_hand(topic: &str, changes: &[Change]) -> String {
    let told: Vec<String> =
        changes.iter().map(|Change { setting, from, to }| format!("{setting} is {from}, not {to}")).collect();
    let set: Vec<String> = changes.iter().map(|Change { setting, to, .. }| format!("{setting}={to}")).collect();
    let (told, set) = (told.join("; "), set.join(","));
    format!(
        "{told}, which may have cost records or their stamps; if that is all right, put it right with kafka-configs \
         --alter --topic {topic} --add-config {set}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str, care: Care, partitions: u32) -> TopicWish {
        let settings = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        TopicWish { name: name.into(), partitions, care, replication: None, settings, at_first: BTreeMap::new() }
    }

    fn fact(partitions: u32, policy: &str) -> TopicFact {
        let settings = BTreeMap::from([("cleanup.policy".to_owned(), policy.to_owned())]);
        TopicFact { partitions, copies: 2, settings }
    }

    fn told(wish: &TopicWish, mark: Option<TopicFact>, fact: Option<TopicFact>) -> Vec<String> {
        let facts = mark.map(|fact| ("mark".to_owned(), fact)).into_iter();
        let facts = facts.chain(fact.map(|fact| (wish.name.clone(), fact))).collect();
        let steps = decide(&[self::wish("mark", Care::Own, 1), wish.clone()], &facts);
        steps.iter().map(ToString::to_string).filter(|step| !step.contains("mark")).collect()
    }

    #[test]
    fn every_difference_is_told_at_once() {
        let check = |(care, partitions): (Care, u32), fact: Option<TopicFact>, want: &[&str]| {
            assert_eq!(told(&wish("t", care, partitions), Some(self::fact(1, "compact")), fact), want);
        };
        let policy = "t: cleanup.policy is delete, not compact, which may have cost records or their stamps; if that is \
                      all right, put it right with kafka-configs --alter --topic t --add-config cleanup.policy=compact";
        for care in [Care::Managed, Care::Adopted] {
            check((care, 4), None, &["create t with 4 partitions, cleanup.policy=compact"]);
            check((care, 4), Some(fact(4, "compact")), &[]);
            check((care, 4), Some(fact(2, "delete")), &["grow t from 2 to 4 partitions", policy]);
            let fewer = "t: has 6 partitions, the manifest says 4; partitions cannot be taken away: say 6";
            check((care, 4), Some(fact(6, "compact")), &[fewer]);
        }
        let fixed = "t: has 2 partitions and needs 4, which cannot change while it holds data";
        check((Care::Own, 4), Some(fact(2, "compact")), &[fixed]);
    }

    #[test]
    fn what_is_only_looked_at_is_never_written_to() {
        let absent = "t: is not there, and `managementPolicy: Observe` leaves it to others to create: let them, or say \
                      Manage";
        let unfit =
            |from: u32| format!("t: has {from} partitions, the manifest says 4; it is only looked at, so: say {from}");
        let rows = [
            (None, vec![absent.to_owned()]),
            (Some(fact(2, "delete")), vec![unfit(2)]),
            (Some(fact(6, "compact")), vec![unfit(6)]),
            (Some(fact(4, "delete")), vec![]),
        ];
        for mark in [None, Some(fact(1, "compact"))] {
            for (found, want) in rows.clone() {
                assert_eq!(told(&wish("t", Care::Observed, 4), mark.clone(), found), want);
            }
        }
    }

    #[test]
    fn fewer_copies_than_were_asked_for_are_told_to_those_who_look_after_the_topic() {
        let few = "t: has 2 copies of a partition, the manifest says 3: add some by kafka-reassign-partitions";
        for (care, asked, want) in [
            (Care::Managed, Some(3), Some(few)),
            (Care::Adopted, Some(3), Some(few)),
            (Care::Managed, Some(2), None),
            (Care::Managed, Some(1), None),
            (Care::Managed, None, None),
            (Care::Observed, Some(3), None),
            (Care::Own, Some(3), None),
        ] {
            let wish = TopicWish { replication: asked, ..wish("t", care, 4) };
            let want: Vec<&str> = want.into_iter().collect();
            assert_eq!(told(&wish, Some(fact(1, "compact")), Some(fact(4, "compact"))), want, "{care:?} {asked:?}");
        }
    }

    #[test]
    fn what_is_shared_is_made_and_left_as_it_is() {
        for mark in [None, Some(fact(1, "compact"))] {
            assert_eq!(told(&wish("t", Care::Shared, 4), mark.clone(), None).len(), 1);
            for found in [fact(2, "delete"), fact(6, "compact")] {
                assert_eq!(told(&wish("t", Care::Shared, 4), mark.clone(), Some(found)), [""; 0]);
            }
        }
    }

    #[test]
    fn a_topic_that_is_older_than_the_pipeline_is_not_taken_over_unasked() {
        let foreign = "t: was there before this pipeline: say `adopt: true` to take it over, `managementPolicy: Observe` \
                       to only look at it, or another name";
        let found = Some(fact(2, "compact"));
        assert_eq!(told(&wish("t", Care::Managed, 4), None, found.clone()), [foreign]);
        for (care, mark) in [(Care::Adopted, None), (Care::Managed, Some(fact(1, "compact")))] {
            assert_eq!(told(&wish("t", care, 4), mark, found.clone()), ["grow t from 2 to 4 partitions"]);
        }
    }

    #[test]
    fn settings_that_are_named_are_put_right_and_others_left_alone() {
        let check = |care: Care, found: &str, want: &[&str]| {
            let settings = |text: &str| -> BTreeMap<String, String> {
                let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
                pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
            };
            let named = settings("retention.ms=1209600000 min.cleanable.dirty.ratio=0.2 compression.type=zstd");
            let wish = TopicWish { settings: named, ..wish("t", care, 1) };
            let fact = TopicFact { partitions: 1, copies: 1, settings: settings(found) };
            assert_eq!(told(&wish, Some(self::fact(1, "compact")), Some(fact)), want, "{found}");
        };
        for care in [Care::Managed, Care::Adopted, Care::Own] {
            let set = "set t: compression.type=zstd (it is lz4), retention.ms=1209600000 (it is 604800000)";
            check(care, "retention.ms=604800000 segment.ms=7 compression.type=lz4", &[set]);
            // What a broker does not tell, or writes in another way, does not differ.
            check(care, "retention.ms=1209600000 min.cleanable.dirty.ratio=0.20 compression.type=ZSTD", &[]);
        }
        check(Care::Observed, "retention.ms=604800000", &[]);
        assert!(is_same("delete, compact", "compact,delete") && !is_same("compact", "delete") && !is_same("1", "2"));
    }
}
