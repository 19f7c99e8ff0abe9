//! The chart gives the objects that were asked for, with no more rights than needed, and refuses what it does not know.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use tests::{
    binary::root,
    chart::{CHOICES, RELEASE, folder, helm, label, objects, pod, render},
};

/// Kinds that a cluster with the Prometheus operator knows.
const MONITORING: [&str; 3] = [
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
];

fn labels(values: &[&str]) -> BTreeSet<String> {
    render(values, &[]).unwrap_or_else(|error| panic!("{values:?}: {error}")).iter().map(label).collect()
}

fn find(objects: &[Value], wanted: &str) -> Value {
    let found = objects.iter().find(|object| label(object) == wanted);
    found.cloned().unwrap_or_else(|| panic!("no {wanted} in {:?}", objects.iter().map(label).collect::<Vec<_>>()))
}

/// Every object of every choice, with the choice's name.
fn everything() -> Vec<(&'static str, Value)> {
    let rendered = CHOICES.iter().flat_map(|(name, values)| {
        let objects = render(values, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        objects.into_iter().map(|object| (*name, object))
    });
    rendered.collect()
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    for values in ["devKafka.enabled=true,devCouchbase.enabled=true,devDashboard.enabled=true", "crds.install=true"] {
        let folder = folder();
        let output = helm(&["lint", "--strict", folder.to_str().unwrap(), "--set", values]).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("[WARNING]"), "{said}");
    }
}

#[test]
fn each_choice_adds_and_removes_its_own_objects() {
    let plain = labels(&[]);
    let operator = [
        "ClusterRole/shop-clickstream-edit",
        "ClusterRole/shop-clickstream-view",
        "CustomResourceDefinition/clickstreampipelines.clickstream.dev",
        "Deployment/clickstream",
        "Job/clickstream-uninstall",
        "NetworkPolicy/clickstream",
        "Pod/clickstream-test",
        "Role/clickstream",
        "Role/clickstream-lease",
        "Role/clickstream-uninstall",
        "RoleBinding/clickstream",
        "RoleBinding/clickstream-lease",
        "RoleBinding/clickstream-uninstall",
        "Service/clickstream-metrics",
        "ServiceAccount/clickstream",
    ];
    assert_eq!(plain, operator.map(str::to_owned).into());
    let rows: &[(&str, &[&str], &[&str])] = &[
        (
            "all namespaces",
            &["ClusterRole/shop-clickstream", "ClusterRoleBinding/shop-clickstream"],
            &["Role/clickstream", "RoleBinding/clickstream"],
        ),
        (
            "two namespaces",
            &[
                "Role/clickstream in web",
                "RoleBinding/clickstream in web",
                "Role/clickstream in app",
                "RoleBinding/clickstream in app",
                "ClusterRole/shop-clickstream-finalizers",
                "ClusterRoleBinding/shop-clickstream-finalizers",
            ],
            &["Role/clickstream", "RoleBinding/clickstream"],
        ),
        (
            "two namespaces, and nothing beyond them",
            &["Role/clickstream in web", "RoleBinding/clickstream in web"],
            &[],
        ),
        ("a standby", &["PodDisruptionBudget/clickstream"], &[]),
        ("a standby without a budget", &[], &[]),
        (
            "no rights of its own",
            &[],
            &[
                "ServiceAccount/clickstream",
                "Role/clickstream",
                "RoleBinding/clickstream",
                "Role/clickstream-lease",
                "RoleBinding/clickstream-lease",
                "Role/clickstream-uninstall",
                "RoleBinding/clickstream-uninstall",
                "ClusterRole/shop-clickstream-view",
                "ClusterRole/shop-clickstream-edit",
            ],
        ),
        (
            "nothing before it is uninstalled",
            &[],
            &["Job/clickstream-uninstall", "Role/clickstream-uninstall", "RoleBinding/clickstream-uninstall"],
        ),
        ("definitions from elsewhere", &[], &["CustomResourceDefinition/clickstreampipelines.clickstream.dev"]),
        ("no network policy", &[], &["NetworkPolicy/clickstream"]),
        ("pod monitor and rules", &["PodMonitor/clickstream", "PrometheusRule/clickstream"], &[]),
        ("service monitor", &["ServiceMonitor/clickstream"], &[]),
        (
            "one broker",
            &["ConfigMap/kafka", "Service/kafka-bootstrap", "Service/kafka-brokers", "StatefulSet/kafka"],
            &[],
        ),
        (
            "three brokers",
            &[
                "ConfigMap/kafka",
                "PodDisruptionBudget/kafka",
                "Service/kafka-bootstrap",
                "Service/kafka-brokers",
                "StatefulSet/kafka",
            ],
            &[],
        ),
    ];
    for (name, added, removed) in rows {
        let (_, values) = CHOICES.iter().find(|(choice, _)| choice == name).unwrap();
        let mut expected = plain.clone();
        removed.iter().for_each(|label| assert!(expected.remove(*label), "{name}: {label} is not there anyhow"));
        expected.extend(added.iter().map(|label| (*label).to_owned()));
        assert_eq!(labels(values), expected, "{name}");
    }
}

#[test]
fn monitoring_comes_by_itself_where_the_cluster_knows_it() {
    let with = |values: &[&str]| -> BTreeSet<String> {
        let rendered = render(values, &MONITORING).unwrap();
        rendered.iter().map(label).filter(|label| label.contains("Monitor/") || label.contains("Rule/")).collect()
    };
    assert_eq!(with(&[]), ["PodMonitor/clickstream".to_owned(), "PrometheusRule/clickstream".to_owned()].into());
    assert_eq!(with(&["monitoring.monitorKind=ServiceMonitor", "monitoring.rules=false"]).len(), 1);
    assert_eq!(with(&["monitoring.monitor=false", "monitoring.rules=false"]).len(), 0);
}

#[test]
fn mistakes_in_values_are_refused_by_name() {
    let rows = [
        ("operator.replica=2", "replica"),
        ("operater.replicas=2", "operater"),
        ("operator.replicas=two", "replicas"),
        ("operator.replicas=9", "replicas"),
        ("operator.log=yaml", "log"),
        ("operator.resources.requests.cpu=a lot", "cpu"),
        ("operator.nodeSelector.a.b=c", "nodeSelector"),
        ("image.tag=bad tag", "tag"),
        ("image.digest=abc", "digest"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("imagePullSecrets[0]=registry", "imagePullSecrets"),
        ("watch.namespaces={Shop}", "namespaces"),
        ("watch.namespaces=shop", "namespaces"),
        ("watch.allNamespaces=true,watch.namespaces={shop}", "watch"),
        ("crds.create=true", "create"),
        ("rbac.secrets.read=true", "secrets"),
        ("networkPolicy.egressPorts={99999}", "egressPorts"),
        ("monitoring.rules=perhaps", "rules"),
        ("monitoring.interval=often", "interval"),
        ("monitoring.lagEvents=0", "lagEvents"),
        ("devKafka.brokers=2", "brokers"),
        ("devKafka.persistence.size=big", "size"),
        ("devKafka.heap=1 gigabyte", "heap"),
        ("devCouchbase.password=short", "password"),
        ("devCouchbase.dataMemoryMi=64", "dataMemoryMi"),
        ("devDashboard.nodePort=80", "nodePort"),
        ("serviceAccount.name=Not A Name", "name"),
    ];
    for (value, names) in rows {
        let said = render(&[value], &[]).expect_err(value).to_string();
        assert!(said.contains("values don't meet the specifications") && said.contains(names), "{value}: {said}");
    }
}

#[test]
fn every_value_is_in_the_schema_and_every_field_of_the_schema_has_a_default() {
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(folder().join("values.schema.json")).unwrap()).unwrap();
    let values = objects(&fs::read_to_string(folder().join("values.yaml")).unwrap()).unwrap().remove(0);
    compare(&schema, &values, "");
}

fn compare(schema: &Value, values: &Value, at: &str) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema["additionalProperties"], json!(false), "{at}: takes anything");
    let default = |name: &str| values.get(name).unwrap_or_else(|| panic!("{at}.{name} has no default"));
    for (name, inner) in properties.iter().filter(|(name, _)| *name != "global") {
        // A list of resources may have limits alone, or none.
        if !["requests", "limits"].contains(&name.as_str()) {
            compare(inner, default(name), &format!("{at}.{name}"));
        }
    }
    let known: BTreeSet<&String> = properties.keys().collect();
    let given: BTreeSet<&String> = values.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    assert!(given.is_subset(&known), "{at}: {given:?} but the schema knows {known:?}");
}

#[test]
fn the_definition_is_a_template_that_is_kept() {
    let rendered = render(&[], &[]).unwrap();
    let mut definition = find(&rendered, "CustomResourceDefinition/clickstreampipelines.clickstream.dev");
    assert_eq!(definition["metadata"]["annotations"], json!({ "helm.sh/resource-policy": "keep" }));
    definition["metadata"].as_object_mut().unwrap().remove("annotations");
    assert!(definition == objects(&crds::crd_yaml()).unwrap()[0], "the rendered definition differs from the types");
}

#[test]
fn every_pod_is_restricted() {
    for (name, object) in everything() {
        let Some(pod) = pod(&object) else { continue };
        let (at, spec) = (format!("{name}: {}", label(&object)), &pod["spec"]);
        assert_eq!(spec["automountServiceAccountToken"], false, "{at}");
        assert_eq!(spec["enableServiceLinks"], false, "{at}");
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{at}");
        assert!(spec["securityContext"]["runAsUser"].as_u64().unwrap() > 0, "{at}");
        assert_eq!(spec["securityContext"]["seccompProfile"], json!({ "type": "RuntimeDefault" }), "{at}");
        for container in spec["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{at}");
            assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }), "{at}");
            let must_write = label(&object) == "StatefulSet/couchbase";
            assert!(must_write || security["readOnlyRootFilesystem"] == true, "{at}");
            for wanted in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(container["resources"].pointer(wanted).is_some(), "{at}: no {wanted}");
            }
        }
    }
}

/// The one right beyond the namespaces that are watched outlives them, and is no more than a finalizer needs.
#[test]
fn a_namespace_that_goes_does_not_take_the_right_to_let_pipelines_go() {
    let objects = render(&["watch.namespaces={web,app}"], &[]).unwrap();
    let role = find(&objects, "ClusterRole/shop-clickstream-finalizers");
    let rule =
        json!({"apiGroups": ["clickstream.dev"], "resources": ["clickstreampipelines"], "verbs": ["get", "patch"]});
    assert_eq!(role["rules"], json!([rule]));
    let binding = find(&objects, "ClusterRoleBinding/shop-clickstream-finalizers");
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], "clickstream");
}

#[test]
fn what_runs_before_it_is_uninstalled_is_no_pod_of_the_operator() {
    let objects = render(&[], &[]).unwrap();
    let (operator, job) = (find(&objects, "Deployment/clickstream"), find(&objects, "Job/clickstream-uninstall"));
    let labels = &pod(&job).unwrap()["metadata"]["labels"];
    let wanted = operator["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(wanted.iter().any(|(key, value)| labels[key] != *value), "it would wait for itself to go: {labels}");
    for what in ["Role", "RoleBinding", "Job"] {
        let annotations = &find(&objects, &format!("{what}/clickstream-uninstall"))["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "pre-delete", "{what}");
    }
}

#[test]
fn no_right_is_wider_than_named() {
    for (name, object) in everything() {
        let at = format!("{name}: {}", label(&object));
        for rule in object["rules"].as_array().into_iter().flatten() {
            let has =
                |list: &str, wanted: &str| rule[list].as_array().is_some_and(|list| list.contains(&json!(wanted)));
            for list in ["apiGroups", "resources", "verbs"] {
                assert!(rule[list].is_array() && !has(list, "*"), "{at}: {rule}");
            }
            let escalates =
                ["secrets", "roles", "rolebindings", "clusterroles", "clusterrolebindings", "pods/exec", "nodes"];
            assert!(!escalates.iter().any(|resource| has("resources", resource)), "{at}: {rule}");
        }
        let cluster_wide = object["kind"] == "ClusterRoleBinding";
        assert!(!cluster_wide || ["all namespaces", "two namespaces"].contains(&name), "{at}");
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(subject["namespace"], "shop", "{at}");
        }
    }
}

#[test]
fn the_operator_is_told_what_it_watches_and_which_image_workers_run() {
    let rows: [(&[&str], &str, &str); 4] = [
        (&[], "shop", "--worker-image=clickstream:0.1.0"),
        (&["watch.allNamespaces=true"], "", "--worker-image=clickstream:0.1.0"),
        (&["watch.namespaces={web,app}", "image.tag=dev"], "app,web", "--worker-image=clickstream:dev"),
        (&["workerImage=registry.example.com/worker:1"], "shop", "--worker-image=registry.example.com/worker:1"),
    ];
    for (values, namespaces, image) in rows {
        let deployment = find(&render(values, &[]).unwrap(), "Deployment/clickstream");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array().unwrap();
        assert_eq!(arguments[0], "run", "{values:?}");
        assert!(arguments.contains(&json!(image)), "{values:?}: {arguments:?}");
        let told = container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "WATCH_NAMESPACE");
        assert_eq!(told.unwrap()["value"], namespaces, "{values:?}");
    }
}

#[test]
fn what_selects_pods_selects_some() {
    for (name, values) in CHOICES {
        let objects = render(values, &[]).unwrap();
        let pods: Vec<&Value> = objects.iter().filter_map(pod).map(|pod| &pod["metadata"]["labels"]).collect();
        for object in &objects {
            let spec = &object["spec"];
            let selector = match object["kind"].as_str().unwrap() {
                "Service" => &spec["selector"],
                "Deployment" | "StatefulSet" | "PodDisruptionBudget" | "PodMonitor" => &spec["selector"]["matchLabels"],
                "NetworkPolicy" => &spec["podSelector"]["matchLabels"],
                _ => continue,
            };
            let wanted = selector.as_object().unwrap();
            assert!(!wanted.is_empty(), "{name}: {} selects everything", label(object));
            // The dashboard's pods are the operator's to make.
            let ours = pods.iter().any(|labels| wanted.iter().all(|(key, value)| &labels[key] == value));
            assert!(ours || label(object) == "Service/clickstream-dashboard", "{name}: {}", label(object));
        }
    }
}

#[test]
fn brokers_vote_and_copy_by_their_number() {
    for (brokers, replication, in_sync) in [(1, 1, 1), (3, 3, 2)] {
        let rendered = render(&["devKafka.enabled=true", &format!("devKafka.brokers={brokers}")], &[]).unwrap();
        let properties = find(&rendered, "ConfigMap/kafka")["data"]["server.properties"].as_str().unwrap().to_owned();
        let line = |key: &str| {
            let found = properties.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_else(|| panic!("no {key} in {properties}")).to_owned()
        };
        let voters: Vec<String> =
            (0..brokers).map(|id| format!("{id}@kafka-{id}.kafka-brokers.shop.svc:9093")).collect();
        assert_eq!(line("controller.quorum.voters"), voters.join(","));
        assert_eq!(line("default.replication.factor"), replication.to_string());
        assert_eq!(line("transaction.state.log.replication.factor"), replication.to_string());
        assert_eq!(line("min.insync.replicas"), in_sync.to_string());
        assert_eq!(find(&rendered, "StatefulSet/kafka")["spec"]["replicas"], brokers);
    }
}

#[test]
fn the_examples_find_what_the_chart_makes_to_try_them() {
    let rendered = render(&["devKafka.enabled=true", "devCouchbase.enabled=true"], &[]).unwrap();
    let (bootstrap, secret) = (find(&rendered, "Service/kafka-bootstrap"), find(&rendered, "Secret/couchbase"));
    let address = format!("kafka-bootstrap:{}", bootstrap["spec"]["ports"][0]["port"]);
    for key in ["connectionString", "username", "password"] {
        assert!(secret["stringData"][key].is_string(), "no {key}");
    }
    for example in ["medallion", "dataset-split"] {
        let text = fs::read_to_string(root().join(format!("examples/{example}.yaml"))).unwrap();
        assert!(text.contains(&address), "{example} does not use {address}");
        assert!(!text.contains("couchbase: {") || text.contains("connectionSecret: couchbase,"), "{example}");
    }
}

#[test]
fn names_stay_within_bounds_for_any_release() {
    for release in [RELEASE, "a", "x-clickstream-y", "an-uncommonly-long-name-of-a-release-that-helm-takes"] {
        let folder = folder();
        let arguments = ["template", release, folder.to_str().unwrap(), "--kube-version", "1.34.0"];
        let output = helm(&arguments).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for object in objects(&String::from_utf8(output.stdout).unwrap()).unwrap() {
            let name = object["metadata"]["name"].as_str().unwrap();
            let bound = if object["kind"] == "Service" { 63 } else { 253 };
            assert!(name.len() <= bound && !name.contains("--") && name.contains("clickstream"), "{release}: {name}");
        }
    }
}
