//! What the cluster makes otherwise than we say it, as a webhook does that overwrites a field. Pure.
//!
//! An apply is answered with the object as it is from then on. What is otherwise in the answer already, another apply would not
//! change: it is told once and left so, until something else of the object differs, or something else is said of it; once an hour it
//! is said again. A new leader has no memory, and applies once more.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    desired::Object,
    observed::{Kind, Objects},
    steps::differences::{Difference, differences},
};

/// After how long it is said again: whoever overwrote it may have stopped.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);

/// Fields that are named of an object: more of them say no more.
const TOLD_MAX: usize = 8;

/// The objects of a pipeline that others have the last word on: at most all that it has.
#[derive(Clone, Debug, Default)]
pub struct Overruled {
    left: BTreeMap<(Kind, String), Left>,
}

#[derive(Clone, Debug, PartialEq)]
struct Left {
    said: Value,
    differs: Vec<Difference>,
    at: Instant,
}

impl Overruled {
    /// Takes the answer to an apply into account. Returns what people are to be told, where it is news.
    pub fn answered(&mut self, now: Instant, object: &Object, answer: &Value) -> Option<String> {
        let key = (object.kind, object.name.clone());
        let differs = differences(answer, &object.body);
        if differs.is_empty() {
            self.left.remove(&key);
            return None;
        }
        let fields: Vec<&str> = differs.iter().take(TOLD_MAX).map(|one| one.path.as_str()).collect();
        let told = format!(
            "{} {}: the cluster overwrites {} at once, as an admission webhook does; it is left so, and said again once \
             an hour: take the pipeline out of what overwrites it, or say the same in the manifest",
            object.kind.api().2,
            object.name,
            fields.join(", ")
        );
        let left = Left { said: object.body.clone(), differs, at: now };
        let is_known =
            self.left.get(&key).is_some_and(|known| (&known.said, &known.differs) == (&left.said, &left.differs));
        self.left.insert(key, left);
        (!is_known).then_some(told)
    }

    /// Shows what was left to others as we said it: nobody is to say it again within the hour. What is not there any more is
    /// forgotten.
    pub fn show_as_said(&mut self, now: Instant, live: &mut Objects) {
        self.left.retain(|key, _| live.contains_key(key));
        for (key, left) in self.left.iter().filter(|(_, left)| now.duration_since(left.at) < AGAIN_AFTER) {
            let Some(found) = live.get_mut(key).filter(|found| differences(found, &left.said) == left.differs) else {
                continue;
            };
            for (name, said) in left.said.as_object().into_iter().flatten() {
                match (name.as_str(), said.as_object()) {
                    // Beside what we say of it stands what the cluster says: times, versions.
                    ("metadata", Some(fields)) => {
                        fields.iter().for_each(|(name, said)| found["metadata"][name] = said.clone());
                    }
                    _ => found[name] = said.clone(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::differences::covers;

    fn object(image: &str) -> Object {
        let body = json!({
            "metadata": {"name": "shop-process", "labels": {"a": "b"}},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "clickstream", "image": image}]}}},
        });
        Object { kind: Kind::Deployment, name: "shop-process".into(), body }
    }

    /// As a mirror of images, and a mesh, would have it.
    fn mutated(object: &Object) -> Value {
        let mut found = object.body.clone();
        found["metadata"]["generation"] = json!(3);
        found["metadata"]["annotations"] = json!({"mesh": "injected"});
        let containers = &mut found["spec"]["template"]["spec"]["containers"];
        containers[0]["image"] =
            json!(format!("mirror/{}", object.body["spec"]["template"]["spec"]["containers"][0]["image"]));
        containers.as_array_mut().unwrap().insert(0, json!({"name": "proxy", "image": "proxy:1"}));
        found
    }

    fn shown(overruled: &mut Overruled, found: &Value) -> Value {
        let mut live: Objects = [((Kind::Deployment, "shop-process".to_owned()), found.clone())].into();
        overruled.show_as_said(Instant::now(), &mut live);
        live.into_values().next().unwrap()
    }

    #[test]
    fn what_a_webhook_overwrites_is_said_once_and_what_a_hand_changes_is_put_right() {
        let (mut overruled, said) = (Overruled::default(), object("clickstream:1"));
        let found = mutated(&said);
        assert_eq!(shown(&mut overruled, &found), found, "nothing was said yet");
        let told = overruled.answered(Instant::now(), &said, &found).unwrap();
        assert!(told.contains("overwrites spec.template.spec.containers[clickstream].image at once"), "{told}");
        assert!(overruled.answered(Instant::now(), &said, &found).is_none(), "it is no news");
        let as_said = shown(&mut overruled, &found);
        assert!(covers(&as_said, &said.body) && as_said["metadata"]["generation"] == 3, "{as_said}");

        let mut by_hand = found.clone();
        by_hand["spec"]["replicas"] = json!(9);
        assert_eq!(shown(&mut overruled, &by_hand), by_hand, "a hand did that");
        let newer = object("clickstream:2");
        assert!(!covers(&as_said, &newer.body), "another spec is said");
        assert!(overruled.answered(Instant::now(), &newer, &mutated(&newer)).is_some());
        assert!(overruled.answered(Instant::now(), &newer, &newer.body).is_none());
        assert_eq!(shown(&mut overruled, &found), found, "who overwrote it does so no more");
        overruled.answered(Instant::now(), &said, &found);
        overruled.show_as_said(Instant::now(), &mut Objects::new());
        assert!(overruled.left.is_empty(), "it is gone");

        overruled.answered(Instant::now(), &said, &found);
        let mut live: Objects = [((Kind::Deployment, "shop-process".to_owned()), found.clone())].into();
        overruled.show_as_said(Instant::now() + AGAIN_AFTER, &mut live);
        assert_eq!(live.into_values().next(), Some(found.clone()), "it is said again");
        assert!(overruled.answered(Instant::now(), &said, &found).is_none(), "and is no news");
    }

    #[test]
    fn what_is_added_is_no_difference() {
        let said = object("clickstream:1");
        let mut found = mutated(&said);
        found["spec"]["template"]["spec"]["containers"][1]["image"] = json!("clickstream:1");
        assert!(differences(&found, &said.body).is_empty());
        assert!(Overruled::default().answered(Instant::now(), &said, &found).is_none());
        found["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().pop();
        let paths: Vec<String> = differences(&found, &said.body).into_iter().map(|one| one.path).collect();
        assert_eq!(paths, ["spec.template.spec.containers[clickstream]"]);
    }
}
