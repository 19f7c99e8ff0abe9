//! `clickstream-operator plan -f FILE`: what would be made, or changed of what a cluster was seen to have. Neither asks a
//! cluster.

use crds::spec::ClickstreamPipeline;
use serde_json::Value;

use crate::{
    accepted::{Accepted, Verdict, judge},
    desired::{
        MANAGER, Object, Owner, PIPELINE_LABEL, api_version,
        couchbase::{CouchbaseOperator, asking},
        monitoring::Monitoring,
        objects, setup,
    },
    observed::{Kind, Objects, Reading},
    steps::preview,
};

/// The objects of a manifest, in the order of application, as YAML documents.
///
/// # Errors
/// Every problem of the manifest, in one text.
pub fn plan(text: &str, namespace: Option<&str>, image: &str) -> Result<String, String> {
    let (owner, accepted) = read(text, namespace, image)?;
    Ok(render(&owner, &accepted))
}

/// What a manifest would change of the objects in `seen`, a list as `kubectl get -o json` prints it: a line each.
///
/// # Errors
/// Every problem of the manifest, or of the list, in one text.
pub fn changes(text: &str, namespace: Option<&str>, image: &str, seen: &str) -> Result<String, String> {
    let (mut owner, accepted) = read(text, namespace, image)?;
    let live = objects_in(seen, &owner.name)?;
    let kinds = |kind: Kind| live.keys().any(|(found, _)| *found == kind);
    // What is made for Prometheus is the operator's setting, not the manifest's: what is there is wanted.
    owner.monitoring.monitors = kinds(Kind::PodMonitor);
    owner.monitoring.rules = kinds(Kind::PrometheusRule);
    let uid = live.values().find_map(|object| object["metadata"]["ownerReferences"][0]["uid"].as_str());
    owner.uid = uid.map_or(owner.uid, str::to_owned);
    let changes = preview(&owner, &accepted, &Reading::Known(live));
    Ok(if changes.is_empty() { "nothing changes\n".into() } else { changes.join("\n") + "\n" })
}

/// Objects of a pipeline in a list.
fn objects_in(list: &str, pipeline: &str) -> Result<Objects, String> {
    let list: Value = serde_json::from_str(list).map_err(|error| format!("it is not what kubectl prints: {error}"))?;
    let items = list["items"].as_array().ok_or("it is no list; give several kinds to kubectl get, with -o json")?;
    let ours = items.iter().filter(|item| {
        let labels = &item["metadata"]["labels"];
        labels[PIPELINE_LABEL] == pipeline && labels["app.kubernetes.io/managed-by"] == MANAGER
    });
    let known = ours.filter_map(|item| {
        let kind = Kind::all().find(|kind| {
            let (group, version, name, _) = kind.api();
            item["kind"] == name && item["apiVersion"] == api_version(group, version)
        })?;
        Some(((kind, item["metadata"]["name"].as_str()?.to_owned()), item.clone()))
    });
    Ok(known.collect())
}

fn read(text: &str, namespace: Option<&str>, image: &str) -> Result<(Owner, Accepted), String> {
    let pipeline: ClickstreamPipeline = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let name = pipeline.metadata.name.clone().unwrap_or_default();
    let namespace = namespace.or(pipeline.metadata.namespace.as_deref()).unwrap_or("default").to_owned();
    let accepted = match judge(&name, &pipeline.spec) {
        Verdict::Accept(accepted) => *accepted,
        Verdict::Refuse { message } => return Err(message),
    };
    let owner = Owner {
        namespace,
        name,
        uid: "00000000-0000-0000-0000-000000000000".into(),
        image: image.into(),
        monitoring: Monitoring::default(),
        couchbase: match asking(&accepted.spec).next() {
            Some(_) => CouchbaseOperator::There,
            None => CouchbaseOperator::Unasked,
        },
    };
    Ok((owner, accepted))
}

fn render(owner: &Owner, accepted: &Accepted) -> String {
    let mut all: Vec<Object> = objects(owner, accepted);
    all.insert(1, setup::job(owner, accepted));
    let documents = all.iter().map(|object| {
        let yaml = serde_yaml::to_string(&object.body).expect("objects are plain maps, lists and scalars");
        format!("---\n# {} {}\n{yaml}", object.kind.api().2, object.name)
    });
    documents.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::wanted;

    #[test]
    fn a_plan_shows_every_object_and_a_mistake_every_problem() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/medallion.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        let shown = plan(&text, Some("shop"), "clickstream:1").unwrap();
        for part in [
            "# Job medallion-setup-",
            "# Deployment medallion-process",
            "# Service medallion-serve",
            "# NetworkPolicy medallion",
        ] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        assert!(!shown.contains("password"), "secrets are mounted, never written");
        let named = text.replace("  name: medallion", "  name: medallion\n  namespace: there");
        let places = [(&text, None, "default"), (&named, None, "there"), (&named, Some("shop"), "shop")];
        for (text, asked, place) in places {
            let shown = plan(text, asked, "clickstream:1").unwrap();
            assert!(shown.contains(&format!("namespace: {place}\n")), "{place} is not in\n{shown}");
        }
        let wrong = text.replace("from: events", "from: evnts");
        assert!(plan(&wrong, Some("shop"), "clickstream:1").unwrap_err().contains("evnts"));
    }

    #[test]
    fn a_plan_against_what_a_cluster_has_tells_only_what_changes() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/medallion.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        let told = |text: &str, seen: &Value| changes(text, Some("shop"), "clickstream:1", &seen.to_string()).unwrap();
        let list = |items: Vec<Value>| serde_json::json!({"kind": "List", "items": items});
        assert!(told(&text, &list(vec![])).contains("create Deployment medallion-process"));

        let (owner, accepted) = read(&text, Some("shop"), "clickstream:1").unwrap();
        let mut live: Vec<Value> = wanted(&owner, &accepted, &Objects::new()).into_iter().map(|one| one.body).collect();
        let mut job = setup::job(&owner, &accepted).body;
        job["status"]["conditions"] = serde_json::json!([{"type": "Complete", "status": "True"}]);
        live.push(job);
        // Another pipeline's, and one that somebody else made.
        let mut other = live[0].clone();
        other["metadata"]["labels"][PIPELINE_LABEL] = "other".into();
        live.push(other);
        assert_eq!(told(&text, &list(live.clone())), "nothing changes\n");
        let more = told(&text.replace("replicas: 2", "replicas: 3"), &list(live.clone()));
        assert!(more.contains("pods") && !more.contains("create") && !more.contains("rebuilt"), "{more}");
        let other = told(&text.replacen("retention: ", "retention: 1", 1), &list(live));
        assert!(other.contains("keeps events for 1"), "{other}");
        assert!(changes(&text, Some("shop"), "clickstream:1", "{}").unwrap_err().contains("no list"));
    }
}
