//! `clickstream-operator plan -f FILE`: what would be made, without a cluster.

use crds::spec::ClickstreamPipeline;

use crate::{
    accepted::{Accepted, Verdict, judge},
    desired::{
        Object, Owner,
        couchbase::{CouchbaseOperator, asking},
        monitoring::Monitoring,
        objects, setup,
    },
};

/// The objects of a manifest, in the order of application, as YAML documents.
///
/// # Errors
/// Every problem of the manifest, in one text.
pub fn plan(text: &str, namespace: &str, image: &str) -> Result<String, String> {
    let pipeline: ClickstreamPipeline = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let name = pipeline.metadata.name.clone().unwrap_or_default();
    let accepted = match judge(&name, &pipeline.spec) {
        Verdict::Accept(accepted) => accepted,
        Verdict::Refuse { message } => return Err(message),
    };
    let owner = Owner {
        namespace: namespace.into(),
        name,
        uid: "00000000-0000-0000-0000-000000000000".into(),
        image: image.into(),
        monitoring: Monitoring::default(),
        couchbase: match asking(&accepted.spec).next() {
            Some(_) => CouchbaseOperator::There,
            None => CouchbaseOperator::Unasked,
        },
    };
    Ok(render(&owner, &accepted))
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

    #[test]
    fn a_plan_shows_every_object_and_a_mistake_every_problem() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/medallion.yaml");
        let text = std::fs::read_to_string(file).unwrap();
        let shown = plan(&text, "shop", "clickstream:1").unwrap();
        for part in [
            "# Job medallion-setup-",
            "# Deployment medallion-process",
            "# Service medallion-serve",
            "# NetworkPolicy medallion",
        ] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        assert!(!shown.contains("password"), "secrets are mounted, never written");
        let wrong = text.replace("from: events", "from: evnts");
        assert!(plan(&wrong, "shop", "clickstream:1").unwrap_err().contains("evnts"));
    }
}
