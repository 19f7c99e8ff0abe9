//! `clickstream-operator`: keeps pipelines in a cluster as their manifests say.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use kube::{Client, Config};
use operator::{
    controller::{self, Pace, Setting},
    desired::monitoring::Monitoring,
    farewell,
    leader::Candidate,
    metrics::Metrics,
    plan, server,
};
use tokio::signal::unix::{SignalKind, signal};

/// The API server may take this long to answer; without a bound a reconcile could hang for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(295);

/// What is done before leaving takes no longer: a pod that is told to go has half a minute.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(15);

#[derive(Parser)]
#[command(version, about = "Keeps ClickstreamPipelines in a cluster as their manifests say")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Watch and reconcile, as long as this process holds the lease.
    Run(Run),
    /// Show what a manifest would make, without a cluster.
    Plan(Plan),
    /// Stop an operator, and take its finalizer from every pipeline: before it is uninstalled.
    LetGo(LetGo),
    /// Print the definition of the resource.
    Crd,
}

#[derive(clap::Args)]
struct Run {
    /// Watch these namespaces only, separated by commas; the whole cluster without it.
    #[arg(long, env = "WATCH_NAMESPACE", default_value = "")]
    namespace: String,
    /// Namespace of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// Name of the Lease: operators of different releases have each their own.
    #[arg(long, env = "LEASE_NAME", default_value = "clickstream-operator")]
    lease_name: String,
    /// Who this is; a pod's name.
    #[arg(long, env = "POD_NAME", default_value = "clickstream-operator")]
    identity: String,
    /// Image of the workers.
    #[arg(long, env = "WORKER_IMAGE")]
    worker_image: String,
    /// Make a PodMonitor for each pipeline, where the cluster knows the kind.
    #[arg(long)]
    pod_monitors: bool,
    /// Make a PrometheusRule for each pipeline, where the cluster knows the kind.
    #[arg(long)]
    rules: bool,
    /// What Prometheus selects these by: `NAME=VALUE`; may be given several times.
    #[arg(long = "monitoring-label", value_name = "NAME=VALUE", value_parser = label)]
    monitoring_labels: Vec<(String, String)>,
    /// Make resources of Couchbase's operator for sinks that ask for them, where the cluster knows the kinds.
    #[arg(long)]
    couchbase_operator: bool,
    /// Address of health and metrics.
    #[arg(long, alias = "metrics-listen", default_value = "127.0.0.1:9090")]
    listen: SocketAddr,
    /// How the program's own log is written.
    #[arg(long, value_enum, default_value = "text")]
    log: LogFormat,
}

/// How the program's own log is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(clap::Args)]
struct LetGo {
    /// Namespaces of the pipelines, separated by commas; the whole cluster without it.
    #[arg(long, env = "WATCH_NAMESPACE", default_value = "")]
    namespace: String,
    /// Namespace of the operator.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    operator_namespace: String,
    /// The operator's Deployment.
    #[arg(long)]
    deployment: String,
}

#[derive(clap::Args)]
struct Plan {
    /// The manifest.
    #[arg(short, long)]
    file: PathBuf,
    /// Namespace; the manifest's unless said, and `default` where it names none.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Image of the workers.
    #[arg(long, default_value = "clickstream:latest")]
    worker_image: String,
    /// Only what would change of these objects: a file with what kubectl get -o json printed, - for standard input.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    // A build of the whole workspace has two providers of cryptography in it: say which.
    rustls::crypto::ring::default_provider().install_default().expect("nothing was installed before");
    let result = match Cli::parse().command {
        Command::Run(args) => run(&args).map(|()| ExitCode::SUCCESS),
        Command::LetGo(args) => let_go(&args).map(|()| ExitCode::SUCCESS),
        Command::Plan(args) => show_plan(&args),
        Command::Crd => {
            print!("{}", crds::crd_yaml());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn show_plan(args: &Plan) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("failed to read the manifest {}", args.file.display()))?;
    let planned = match &args.against {
        Some(file) => plan::changes(&text, args.namespace.as_deref(), &args.worker_image, &whole(file)?),
        None => plan::plan(&text, args.namespace.as_deref(), &args.worker_image),
    };
    match planned {
        Ok(shown) => {
            print!("{shown}");
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            eprintln!("error: {}: {problems}", args.file.display());
            Ok(ExitCode::from(2))
        }
    }
}

/// A file, or standard input.
fn whole(file: &Path) -> anyhow::Result<String> {
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    text.with_context(|| format!("failed to read {}", file.display()))
}

fn run(args: &Run) -> anyhow::Result<()> {
    log(args.log);
    runtime()?.block_on(lead(args))
}

fn log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("failed to start")
}

async fn connect() -> anyhow::Result<Client> {
    let mut config = Config::infer().await.context("neither in a cluster nor with a kubeconfig")?;
    config.read_timeout = Some(READ_TIMEOUT);
    Client::try_from(config).context("failed to connect to the API server")
}

/// Namespaces as they are given: names with commas between them.
fn namespaces(given: &str) -> Vec<String> {
    given.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn let_go(args: &LetGo) -> anyhow::Result<()> {
    log(LogFormat::Text);
    runtime()?.block_on(async {
        let client = connect().await?;
        let stopped = farewell::stop(&client, &args.operator_namespace, &args.deployment).await;
        stopped.with_context(|| format!("failed to stop {}/{}", args.operator_namespace, args.deployment))?;
        let gone = farewell::let_go(&client, &namespaces(&args.namespace)).await;
        let gone = gone.context("failed to take the finalizer from all pipelines")?;
        tracing::info!(pipelines = gone.len(), "no pipeline waits for this operator any more");
        Ok(())
    })
}

/// Where the operator's own namespace is being deleted, nobody will be left to take the finalizers away: pipelines, and with them
/// the namespace, would be held for ever.
async fn leave_nobody_waiting(client: &Client, args: &Run) {
    let namespace = &args.lease_namespace;
    let leave = async {
        if farewell::is_going(client, namespace).await? {
            tracing::info!(namespace, "the operator's namespace is being deleted");
            farewell::let_go(client, &namespaces(&args.namespace)).await?;
        }
        Ok::<(), kube::Error>(())
    };
    match tokio::time::timeout(FAREWELL_TIME_MAX, leave).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(namespace, %error, "pipelines with a finalizer may wait for an operator"),
        Err(_) => tracing::warn!(namespace, "the API server did not answer; pipelines may wait for an operator"),
    }
}

/// Leads until told to stop. Who loses the lease leaves with an error, and is started again as a candidate.
async fn lead(args: &Run) -> anyhow::Result<()> {
    let client = connect().await?;
    let metrics = Metrics::new();
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
    let mut candidate = Candidate::new(client.clone(), (&args.lease_namespace, &args.lease_name), &args.identity);
    let health = server::serve(args.listen, metrics.clone());
    let work = async {
        candidate.campaign().await;
        tracing::info!(identity = args.identity, "leading");
        metrics.leads(true);
        let setting = Setting {
            client: client.clone(),
            namespaces: namespaces(&args.namespace),
            image: args.worker_image.clone(),
            monitoring: Monitoring {
                monitors: args.pod_monitors,
                rules: args.rules,
                labels: args.monitoring_labels.iter().cloned().collect(),
            },
            couchbase_operator: args.couchbase_operator,
            identity: args.identity.clone(),
            metrics: metrics.clone(),
            pace: Pace::default(),
        };
        tokio::select! {
            () = controller::run(setting) => anyhow::bail!("the controller stopped"),
            () = candidate.hold() => anyhow::bail!("the lease is lost"),
        }
    };
    let ended = tokio::select! {
        ended = work => ended,
        ended = health => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    if ended.is_ok() {
        leave_nobody_waiting(&client, args).await;
        // The next one need not wait for the lease to run out.
        let released =
            Candidate::new(client, (&args.lease_namespace, &args.lease_name), &args.identity).release().await;
        released.context("failed to give the lease back")?;
    }
    ended
}
