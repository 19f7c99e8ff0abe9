//! A real API server with the definition and the chart's roles; the test plays the controllers that it does not have.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{
    api_server::ApiServer,
    binary::{Running, free_address, operator, root, run},
    chart::{objects, template},
};

/// Everything here answers within seconds; this is for busy cores.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Told to go.
pub const SIGTERM: i32 = 15;

/// Where pipelines are.
pub const NAMESPACE: &str = "shop";

/// A cluster with the definition and the chart's roles, and a folder for manifests.
pub struct Cluster {
    /// The API server.
    pub server: ApiServer,
    /// What the chart tells the operator beside what every operator is told.
    arguments: Vec<String>,
    files: tempfile::TempDir,
}

/// An operator that runs, and where its metrics are.
pub struct Operator {
    /// The process.
    pub running: Running,
    address: String,
}

impl Cluster {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// One of which helm is told that it has these kinds besides Kubernetes' own.
    pub fn start_with(kinds: &[&str]) -> Self {
        let rendered = objects(&template(&[], kinds).unwrap()).unwrap();
        let server = ApiServer::start().unwrap();
        let cluster = Self { server, arguments: arguments(&rendered), files: tempfile::tempdir().unwrap() };
        let mut print = operator().unwrap();
        print.arg("crd");
        let definition = run(print, PATIENCE).unwrap().stdout;
        cluster.apply_text(&definition, &[]).unwrap();
        let established = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"];
        // kubectl gives up on one that has no conditions at all yet.
        cluster.until("the definition", || cluster.server.kubectl_ok(&established).ok());
        cluster.server.kubectl_ok(&["create", "namespace", NAMESPACE]).unwrap();
        let rights: Vec<String> = rights(kinds).iter().map(Value::to_string).collect();
        cluster.apply_text(&rights.join("\n---\n"), &[]).unwrap();
        cluster
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let all = [&["-n", NAMESPACE], arguments].concat();
        self.server.kubectl_ok(&all).map_err(|error| error.to_string())
    }

    pub fn apply_text(&self, text: &str, more: &[&str]) -> Result<String, String> {
        let file = self.files.path().join("applied.yaml");
        fs::write(&file, text).unwrap();
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", file.to_str().unwrap()];
        self.kubectl(&[&apply, more].concat())
    }

    pub fn apply_elsewhere(&self, manifest: &Value, namespace: &str) -> Result<String, String> {
        self.apply_text(&manifest.to_string(), &["-n", namespace])
    }

    pub fn apply(&self, manifest: &Value) -> Result<String, String> {
        self.apply_text(&manifest.to_string(), &[])
    }

    /// What the server would say, without doing it.
    pub fn try_out(&self, manifest: &Value) -> Result<String, String> {
        self.apply_text(&manifest.to_string(), &["--dry-run=server"])
    }

    pub fn get(&self, what: &str) -> Option<Value> {
        let output = self.server.kubectl(&["-n", NAMESPACE, "get", what, "-o", "json"]).unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    pub fn list(&self, kind: &str) -> Vec<Value> {
        self.get(kind).and_then(|list| list["items"].as_array().cloned()).unwrap_or_default()
    }

    pub fn patch(&self, what: &str, patch: &Value, more: &[&str]) {
        let arguments = ["patch", what, "--type=merge", "-p", &patch.to_string()];
        self.kubectl(&[&arguments, more].concat()).unwrap();
    }

    /// Does what the Job controller would do: says that every Job is done.
    pub fn finish_jobs(&self) {
        for job in self.list("jobs") {
            if job["status"]["completionTime"].is_null() {
                let now = "2026-01-01T00:00:00Z";
                let done = |ty: &str| json!({"type": ty, "status": "True", "lastTransitionTime": now});
                let status = json!({"status": {
                    "startTime": now, "completionTime": now, "succeeded": 1,
                    "conditions": [done("SuccessCriteriaMet"), done("Complete")],
                }});
                self.patch(&format!("job/{}", name(&job)), &status, &["--subresource=status"]);
            }
        }
    }

    /// Does what the Deployment controller and the nodes would do: says that every pod is ready.
    pub fn finish_pods(&self) {
        for deployment in self.list("deployments") {
            let replicas = &deployment["spec"]["replicas"];
            let status = json!({
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
            });
            if deployment["status"]["observedGeneration"] != status["observedGeneration"] {
                let what = format!("deployment/{}", name(&deployment));
                self.patch(&what, &json!({"status": status}), &["--subresource=status"]);
            }
        }
    }

    pub fn condition(&self, pipeline: &str, type_: &str) -> Option<Value> {
        let pipeline = self.get(&format!("csp/{pipeline}"))?;
        let generation = &pipeline["metadata"]["generation"];
        let conditions = pipeline["status"]["conditions"].as_array()?;
        let found = conditions.iter().find(|one| one["type"] == type_ && one["observedGeneration"] == *generation);
        found.cloned()
    }

    /// Plays Jobs and pods until the pipeline's condition is as wanted, about its present generation.
    pub fn until_condition(&self, pipeline: &str, type_: &str, status: &str, reason: &str) -> Value {
        self.until(&format!("{type_}={status} ({reason}) of {pipeline}"), || {
            self.finish_jobs();
            self.finish_pods();
            let found = self.condition(pipeline, type_)?;
            (found["status"] == status && found["reason"] == reason).then_some(found)
        })
    }

    pub fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = condition() {
                return found;
            }
            if Instant::now() >= deadline {
                let state = self.kubectl(&["get", "csp,job,deployment,service", "-o", "wide"]);
                let events = self.kubectl(&["get", "events"]);
                panic!("waited in vain for {what}; the cluster:\n{state:?}\n{events:?}");
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    pub fn lease(&self) -> Option<(String, String)> {
        let lease = self.get("lease/clickstream-operator")?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        Some((holder, lease["spec"]["renewTime"].as_str()?.to_owned()))
    }

    /// Waits while the leader renews its lease so many times: a stretch of the operator's own life.
    pub fn renewals(&self, count: usize) {
        for _ in 0..count {
            let before = self.lease();
            self.until("the lease to be renewed", || (self.lease() != before).then_some(()));
        }
    }

    /// Versions of everything that the operator may write, but the Lease.
    pub fn versions(&self) -> Vec<String> {
        let kinds = "csp,configmaps,jobs,networkpolicies,services,poddisruptionbudgets,deployments,horizontalpodautoscalers,ingresses,events";
        let all = self.list(kinds);
        all.iter().map(|one| format!("{} {}", name(one), one["metadata"]["resourceVersion"])).collect()
    }

    pub fn operator(&self, identity: &str) -> Operator {
        self.operator_of(identity, NAMESPACE)
    }

    /// One that watches these namespaces.
    pub fn operator_of(&self, identity: &str, namespaces: &str) -> Operator {
        let address = free_address().unwrap();
        let mut command = operator().unwrap();
        command.args(["run", "--worker-image=localhost/clickstream:1", "--listen", &address, "--identity", identity]);
        command.args(&self.arguments).args(["--namespace", namespaces, "--lease-namespace", NAMESPACE]);
        // With the rights that the chart gives, and no others.
        command.env("KUBECONFIG", self.server.kubeconfig_of_account());
        Operator { running: Running::start(command).unwrap(), address }
    }
}

impl Operator {
    /// Everything it wrote so far, as it counts itself.
    pub fn writes(&self) -> f64 {
        let text = ureq::get(&format!("http://{}/metrics", self.address)).call().unwrap();
        let text = text.into_body().read_to_string().unwrap();
        let lines = text.lines().filter(|line| line.starts_with("clickstream_operator_writes_total"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

pub fn example(name: &str) -> Value {
    let text = fs::read_to_string(root().join(format!("examples/{name}.yaml"))).unwrap();
    serde_yaml::from_str(&text).unwrap()
}

fn arguments(rendered: &[Value]) -> Vec<String> {
    let operator = rendered.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let all = operator["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
    let all = all.iter().map(|argument| argument.as_str().unwrap().to_owned());
    all.filter(|argument| ["--pod-monitors", "--rules", "--couchbase-operator"].contains(&argument.as_str())).collect()
}

/// The account and the roles of the chart, in a cluster that has these kinds.
pub fn rights(kinds: &[&str]) -> Vec<Value> {
    roles(kinds, |hook| hook.is_null())
}

/// What the account may do besides while its release is being uninstalled.
pub fn rights_to_uninstall() -> Vec<Value> {
    roles(&[], |hook| hook == "pre-delete")
}

fn roles(kinds: &[&str], is_wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let rendered = objects(&template(&[], kinds).unwrap()).unwrap();
    let kinds = ["ServiceAccount", "Role", "RoleBinding"];
    let ours = rendered.into_iter().filter(|object| kinds.contains(&object["kind"].as_str().unwrap()));
    ours.filter(|object| is_wanted(&object["metadata"]["annotations"]["helm.sh/hook"])).collect()
}

/// The example with one thing changed.
pub fn changed(manifest: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut manifest = manifest.clone();
    change(&mut manifest);
    manifest
}

/// A pipeline with one topic, one table and nobody who brings events.
pub fn small(name: &str) -> Value {
    json!({
        "apiVersion": "clickstream.dev/v1alpha1", "kind": "ClickstreamPipeline",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "kafka": {"bootstrapServers": ["kafka-bootstrap:9092"]},
            "topics": [{"name": format!("{name}-clicks"), "partitions": 4}],
            "streams": [{
                "name": "clicks", "topics": [format!("{name}-clicks")], "key": "user",
                "eventTime": {"field": "at", "outOfOrderness": "1m"},
                "fields": [
                    {"name": "user", "type": "string", "required": true},
                    {"name": "at", "type": "timestamp", "required": true},
                ],
            }],
            "tables": [{"name": "users", "from": "clicks", "window": {"tumbling": "1m"}, "groupBy": ["user"], "select": {"clicks": "count()"}}],
        },
    })
}
