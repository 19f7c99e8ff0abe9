//! What the cluster answered about a pipeline's objects.

use std::collections::BTreeMap;

use serde_json::Value;

/// The kinds of objects that the operator makes, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The manifest for the workers.
    ConfigMap,
    /// `clickstream setup`.
    Job,
    /// Who may reach the pods.
    NetworkPolicy,
    /// Addresses of collectors and of the dashboard.
    Service,
    /// How many pods may be missing at a time.
    PodDisruptionBudget,
    /// The pods.
    Deployment,
    /// How many collectors there are, by load.
    HorizontalPodAutoscaler,
    /// An address outside the cluster.
    Ingress,
    /// A schedule.
    CronJob,
    /// Which pods Prometheus reads.
    PodMonitor,
    /// When somebody is told.
    PrometheusRule,
    /// A bucket of Couchbase's operator.
    CouchbaseBucket,
    /// The same in memory only.
    CouchbaseEphemeralBucket,
    /// A scope of it.
    CouchbaseScope,
    /// A collection of it.
    CouchbaseCollection,
}

impl Kind {
    /// Those that every cluster has, in order.
    pub const OWN: [Self; 9] = [
        Self::ConfigMap,
        Self::Job,
        Self::NetworkPolicy,
        Self::Service,
        Self::PodDisruptionBudget,
        Self::Deployment,
        Self::HorizontalPodAutoscaler,
        Self::Ingress,
        Self::CronJob,
    ];

    /// Those of Prometheus' operator.
    pub const MONITORING: [Self; 2] = [Self::PodMonitor, Self::PrometheusRule];

    /// Those of Couchbase's operator.
    pub const COUCHBASE: [Self; 4] =
        [Self::CouchbaseBucket, Self::CouchbaseEphemeralBucket, Self::CouchbaseScope, Self::CouchbaseCollection];

    /// Whether data goes with an object of this kind: such a one is never deleted.
    #[must_use]
    pub fn holds_data(self) -> bool {
        Self::COUCHBASE.contains(&self)
    }

    /// Every kind, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::OWN.into_iter().chain(Self::MONITORING).chain(Self::COUCHBASE)
    }

    /// API group, version, kind and plural.
    #[must_use]
    pub const fn api(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Job => ("batch", "v1", "Job", "jobs"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::HorizontalPodAutoscaler => {
                ("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
            Self::Ingress => ("networking.k8s.io", "v1", "Ingress", "ingresses"),
            Self::CronJob => ("batch", "v1", "CronJob", "cronjobs"),
            Self::PodMonitor => ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
            Self::PrometheusRule => ("monitoring.coreos.com", "v1", "PrometheusRule", "prometheusrules"),
            Self::CouchbaseBucket => ("couchbase.com", "v2", "CouchbaseBucket", "couchbasebuckets"),
            Self::CouchbaseEphemeralBucket => {
                ("couchbase.com", "v2", "CouchbaseEphemeralBucket", "couchbaseephemeralbuckets")
            }
            Self::CouchbaseScope => ("couchbase.com", "v2", "CouchbaseScope", "couchbasescopes"),
            Self::CouchbaseCollection => ("couchbase.com", "v2", "CouchbaseCollection", "couchbasecollections"),
        }
    }
}

/// Objects of one pipeline by kind and name.
pub type Objects = BTreeMap<(Kind, String), Value>;

/// How many pods of one pipeline exist and have not ended, by component. Those that were told to go are among them: until
/// they are gone they may still write.
pub type Pods = BTreeMap<String, u32>;

/// A reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// The cluster answered.
    Known(T),
    /// It did not: nothing may be deleted, scaled down or called ready.
    Unknown(String),
}

/// What a Job came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobState {
    /// It is not there.
    Absent,
    /// It has not ended yet.
    Running,
    /// It did what it should.
    Complete,
    /// It gave up.
    Failed(String),
}

/// Reads the state of a Job.
#[must_use]
pub fn job_state(objects: &Objects, name: &str) -> JobState {
    let Some(job) = objects.get(&(Kind::Job, name.to_owned())) else { return JobState::Absent };
    let conditions = job["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let holds = |ty: &str| conditions.iter().find(|one| one["type"] == *ty && one["status"] == "True");
    match (holds("Complete"), holds("Failed")) {
        (Some(_), _) => JobState::Complete,
        (_, Some(failed)) => JobState::Failed(failed["message"].as_str().unwrap_or_default().to_owned()),
        _ => JobState::Running,
    }
}

/// What the last run of a CronJob came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// There was none yet.
    None,
    /// It has not ended yet.
    Running,
    /// It did what it should.
    Succeeded,
    /// It did not.
    Failed,
}

/// Reads what the last run of a CronJob came to; none where there is no such object.
#[must_use]
pub fn last_run(objects: &Objects, name: &str) -> LastRun {
    let Some(found) = objects.get(&(Kind::CronJob, name.to_owned())) else { return LastRun::None };
    let status = &found["status"];
    // Both are written by the cluster, in one form: they are in order as text.
    match (status["lastScheduleTime"].as_str(), status["lastSuccessfulTime"].as_str()) {
        _ if status["active"].as_array().is_some_and(|active| !active.is_empty()) => LastRun::Running,
        (None, _) => LastRun::None,
        (Some(started), Some(succeeded)) if succeeded >= started => LastRun::Succeeded,
        _ => LastRun::Failed,
    }
}

/// What a Deployment came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rollout {
    /// Pods that are wanted.
    pub wanted: i64,
    /// Pods that exist.
    pub replicas: i64,
    /// Pods of the newest template.
    pub updated: i64,
    /// Pods that are ready.
    pub ready: i64,
    /// Whether the status is about the newest spec.
    pub is_current: bool,
    /// How far it is, by its controller.
    pub progress: Progress,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// Pods come and go, or nothing is known.
    #[default]
    UnderWay,
    /// All pods were replaced and ready once: what is missing or not ready since then is no part of it.
    Over,
    /// It did not go on for too long.
    GivenUp,
}

impl Rollout {
    /// Whether pods are still being replaced: until those of the newest template are all there and ready, and no other is left.
    /// Right after a change the numbers are about the template before it. A rollout that its controller gave up holds nobody
    /// back, nor do pods that were lost, refused by a quota or became unready afterwards.
    #[must_use]
    pub const fn is_restarting(self) -> bool {
        self.is_replacing()
            || (matches!(self.progress, Progress::UnderWay) && self.is_current && self.ready < self.wanted)
    }

    /// The same, ready or not.
    #[must_use]
    pub const fn is_replacing(self) -> bool {
        !self.is_current
            || match self.progress {
                Progress::UnderWay => self.updated < self.wanted || self.replicas > self.updated,
                Progress::Over => self.replicas > self.updated,
                Progress::GivenUp => false,
            }
    }

    /// Whether every pod is of the newest template and ready.
    #[must_use]
    pub const fn is_done(self) -> bool {
        self.is_current && self.updated == self.wanted && self.ready == self.wanted && self.replicas == self.wanted
    }
}

/// Reads the state of a Deployment, if there is one.
#[must_use]
pub fn rollout(objects: &Objects, name: &str) -> Option<Rollout> {
    let deployment = objects.get(&(Kind::Deployment, name.to_owned()))?;
    let number = |name: &str| deployment["status"][name].as_i64().unwrap_or(0);
    let conditions = deployment["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let progressing = conditions.iter().find(|one| one["type"] == "Progressing");
    let reason = progressing.and_then(|one| one["reason"].as_str());
    Some(Rollout {
        wanted: deployment["spec"]["replicas"].as_i64().unwrap_or(1),
        replicas: number("replicas"),
        updated: number("updatedReplicas"),
        ready: number("readyReplicas"),
        is_current: deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"],
        progress: match reason {
            Some("NewReplicaSetAvailable") => Progress::Over,
            Some("ProgressDeadlineExceeded") => Progress::GivenUp,
            _ => Progress::UnderWay,
        },
    })
}
