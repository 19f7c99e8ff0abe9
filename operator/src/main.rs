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
    leader::Candidate,
    metrics::Metrics,
    plan, server,
};
use tokio::signal::unix::{SignalKind, signal};

/// The API server may take this long to answer; without a bound a reconcile could hang for ever.
const READ_TIMEOUT: Duration = Duration::from_secs(295);

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
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match args.log {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("failed to start")?.block_on(lead(args))
}

/// Leads until told to stop. Who loses the lease leaves with an error, and is started again as a candidate.
async fn lead(args: &Run) -> anyhow::Result<()> {
    let mut config = Config::infer().await.context("neither in a cluster nor with a kubeconfig")?;
    config.read_timeout = Some(READ_TIMEOUT);
    let client = Client::try_from(config).context("failed to connect to the API server")?;
    let metrics = Metrics::new();
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
    let mut candidate = Candidate::new(client.clone(), (&args.lease_namespace, &args.lease_name), &args.identity);
    let health = server::serve(args.listen, metrics.clone());
    let work = async {
        candidate.campaign().await;
        tracing::info!(identity = args.identity, "leading");
        metrics.leads(true);
        let named = args.namespace.split(',').map(str::trim).filter(|name| !name.is_empty());
        let setting = Setting {
            client: client.clone(),
            namespaces: named.map(str::to_owned).collect(),
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
        // The next one need not wait for the lease to run out.
        let released =
            Candidate::new(client, (&args.lease_namespace, &args.lease_name), &args.identity).release().await;
        released.context("failed to give the lease back")?;
    }
    ended
}
