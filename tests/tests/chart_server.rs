//! Everything that the chart renders is accepted by a real API server, without a warning, in a namespace that warns of
//! pods that are not restricted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, process::Command};

use serde_json::Value;
use tests::{
    api_server::ApiServer,
    chart::{CHOICES, NAMESPACE, RELEASE, folder, helm, label, monitoring_kinds, objects, template},
};

/// Applies a text without doing it, and returns what the server says.
fn try_out(server: &ApiServer, folder: &std::path::Path, text: &str) -> anyhow::Result<String> {
    let file = folder.join("rendered.yaml");
    fs::write(&file, text)?;
    server.kubectl_ok(&["apply", "--dry-run=server", "--server-side", "-f", file.to_str().unwrap()])
}

#[test]
fn a_real_api_server_accepts_every_object_of_every_choice() {
    let server = ApiServer::start().unwrap();
    let files = tempfile::tempdir().unwrap();
    let definitions = files.path().join("monitoring.yaml");
    fs::write(&definitions, monitoring_kinds()).unwrap();
    server.kubectl_ok(&["apply", "-f", definitions.to_str().unwrap()]).unwrap();
    server.kubectl_ok(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).unwrap();
    for namespace in [NAMESPACE, "web", "app"] {
        server.kubectl_ok(&["create", "namespace", namespace]).unwrap();
        let warn = "pod-security.kubernetes.io/warn=restricted";
        server.kubectl_ok(&["label", "namespace", namespace, warn]).unwrap();
        server.kubectl_ok(&["label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
    }
    the_server_would_warn(&server, files.path());
    let mut accepted = 0;
    for (name, values) in CHOICES {
        let text = template(values, &[]).unwrap();
        let said = try_out(&server, files.path(), &text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!said.contains("Warning"), "{name}: {said}");
        let objects = objects(&text).unwrap();
        assert_eq!(said.lines().count(), objects.len(), "{name}: {said}");
        accepted += objects.len();
    }
    println!("{accepted} objects of {} choices were accepted", CHOICES.len());
    install_upgrade_uninstall(&server);
}

/// Asks the server's own authorizer, as the operator's account.
fn the_account_may_do_its_work_and_no_more(server: &ApiServer) {
    let rows = [
        ("list", "clickstreampipelines.clickstream.dev", NAMESPACE, true),
        ("patch", "clickstreampipelines.clickstream.dev/status", NAMESPACE, true),
        ("update", "clickstreampipelines.clickstream.dev", NAMESPACE, false),
        ("update", "clickstreampipelines.clickstream.dev/finalizers", NAMESPACE, true),
        ("create", "deployments.apps", NAMESPACE, true),
        ("patch", "deployments.apps", NAMESPACE, true),
        ("delete", "deployments.apps", NAMESPACE, true),
        ("list", "configmaps", NAMESPACE, true),
        ("delete", "services", NAMESPACE, true),
        ("watch", "jobs.batch", NAMESPACE, true),
        ("patch", "networkpolicies.networking.k8s.io", NAMESPACE, true),
        ("patch", "ingresses.networking.k8s.io", NAMESPACE, true),
        ("create", "poddisruptionbudgets.policy", NAMESPACE, true),
        ("patch", "horizontalpodautoscalers.autoscaling", NAMESPACE, true),
        // This cluster has the kinds, so that the chart gives the right to make them.
        ("create", "podmonitors.monitoring.coreos.com", NAMESPACE, true),
        ("delete", "podmonitors.monitoring.coreos.com", NAMESPACE, false),
        ("create", "events.events.k8s.io", NAMESPACE, true),
        ("create", "leases.coordination.k8s.io", NAMESPACE, true),
        ("update", "leases.coordination.k8s.io/clickstream-operator", NAMESPACE, true),
        ("update", "leases.coordination.k8s.io/of-somebody-else", NAMESPACE, false),
        ("delete", "networkpolicies.networking.k8s.io", NAMESPACE, false),
        ("list", "pods", NAMESPACE, true),
        ("get", "pods", NAMESPACE, false),
        ("get", "secrets", NAMESPACE, false),
        ("list", "secrets", NAMESPACE, false),
        ("delete", "clickstreampipelines.clickstream.dev", NAMESPACE, false),
        ("create", "pods", NAMESPACE, false),
        ("create", "pods/exec", NAMESPACE, false),
        ("create", "roles.rbac.authorization.k8s.io", NAMESPACE, false),
        ("delete", "persistentvolumeclaims", NAMESPACE, false),
        ("list", "clickstreampipelines.clickstream.dev", "web", false),
        ("create", "deployments.apps", "web", false),
        ("create", "leases.coordination.k8s.io", "web", false),
    ];
    for (verb, what, namespace, may) in rows {
        let (resource, rest) = what.split_once('/').unwrap_or((what, ""));
        let is_part = ["status", "finalizers", "exec"].contains(&rest);
        let part = format!("--subresource={}", if is_part { rest } else { "" });
        let object = if is_part || rest.is_empty() { resource.to_owned() } else { what.to_owned() };
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:{RELEASE}");
        let output = server.kubectl(&["auth", "can-i", verb, &object, &part, "-n", namespace, &account]).unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(answer, if may { "yes" } else { "no" }, "{verb} {what} in {namespace}");
    }
}

/// A witness that silence means something: a pod as root is warned of, or refused.
fn the_server_would_warn(server: &ApiServer, files: &std::path::Path) {
    let loose = template(&["operator.replicas=1"], &[]).unwrap().replace("runAsNonRoot: true", "runAsNonRoot: false");
    let said = try_out(server, files, &loose).unwrap_or_else(|error| error.to_string());
    assert!(said.contains("violate") && said.contains("runAsNonRoot"), "{said}");
}

/// The release's life: the definition is renewed by an upgrade and outlives the release; `auto` sees what the cluster knows.
fn install_upgrade_uninstall(server: &ApiServer) {
    let kubeconfig = server.kubeconfig().to_str().unwrap();
    let run = |arguments: &[&str]| {
        let output = helm(&[&["--kubeconfig", kubeconfig, "--namespace", NAMESPACE], arguments].concat()).unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    };
    let folder = folder();
    let chart = folder.to_str().unwrap();
    let get = |what: &str| -> Value {
        serde_json::from_str(&server.kubectl_ok(&["-n", NAMESPACE, "get", what, "-o", "json"]).unwrap()).unwrap()
    };
    let try_things = ["--set", "devKafka.enabled=true", "--set", "devCouchbase.enabled=true"];
    let (installed, said) = run(&[&["install", RELEASE, chart], &try_things[..]].concat());
    assert!(
        installed && said.contains("kubectl -n shop apply -f examples/cluster/lake.yaml -f examples/medallion.yaml"),
        "{said}"
    );
    assert_eq!(label(&get("podmonitor/clickstream")), "PodMonitor/clickstream");
    assert_eq!(label(&get("prometheusrule/clickstream")), "PrometheusRule/clickstream");
    the_account_may_do_its_work_and_no_more(server);
    let password = get("secret/couchbase")["data"]["password"].clone();

    // Somebody's older definition, without a column, is made whole again.
    let definition = "crd/clickstreampipelines.clickstream.dev";
    let older = r#"[{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns/0"}]"#;
    server.kubectl_ok(&["patch", definition, "--type=json", "-p", older]).unwrap();
    let columns = || get(definition)["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap().len();
    let fewer = columns();
    let (upgraded, said) =
        run(&[&["upgrade", RELEASE, chart, "--set", "operator.replicas=2"], &try_things[..]].concat());
    assert!(upgraded, "{said}");
    assert_eq!(columns(), fewer + 1);
    assert_eq!(get("deployment/clickstream")["spec"]["replicas"], 2);
    assert_eq!(get("secret/couchbase")["data"]["password"], password, "an upgrade made up another password");

    let (upgraded, said) = run(&["upgrade", RELEASE, chart, "--set", "devKafka.enabled=true,devKafka.brokers=3"]);
    assert!(!upgraded && said.contains("the voters of a KRaft cluster are fixed"), "{said}");

    assert!(run(&["rollback", RELEASE, "1"]).0);
    assert_eq!(get("deployment/clickstream")["spec"]["replicas"], 1);

    // Nobody runs the hook's Job here; the end-to-end suite does.
    let (gone, said) = run(&["uninstall", RELEASE, "--no-hooks"]);
    assert!(gone, "{said}");
    assert!(server.kubectl_ok(&["-n", NAMESPACE, "get", "deployment/clickstream"]).is_err());
    assert_eq!(label(&get(definition)), "CustomResourceDefinition/clickstreampipelines.clickstream.dev");
    // What was kept is taken over by the same release when it comes again.
    let (again, said) = run(&["install", RELEASE, chart]);
    assert!(again, "{said}");
}

#[test]
fn the_scripts_that_start_things_in_pods_are_shell() {
    let rendered = objects(&template(&["devKafka.enabled=true", "devCouchbase.enabled=true"], &[]).unwrap()).unwrap();
    let mut scripts: Vec<String> = Vec::new();
    for object in &rendered {
        scripts.extend(object["data"]["start"].as_str().map(str::to_owned));
        let containers =
            object.pointer("/spec/template/spec/containers").or_else(|| object.pointer("/spec/containers"));
        for container in containers.and_then(Value::as_array).into_iter().flatten() {
            scripts.extend(container["command"][2].as_str().map(str::to_owned));
        }
    }
    assert_eq!(scripts.len(), 3, "{scripts:?}");
    for script in scripts {
        let checked = Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
        assert!(checked.status.success(), "{script}\n{}", String::from_utf8_lossy(&checked.stderr));
    }
}
