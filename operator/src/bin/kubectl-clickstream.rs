//! `kubectl clickstream`: a pipeline on a page, and the few things that people ask of it. On the PATH, kubectl finds it by its
//! name.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use crds::spec::ClickstreamPipeline;
use kube::{
    Api, Client, Config,
    api::{ListParams, Patch, PatchParams},
    config::KubeConfigOptions,
};
use operator::plugin::{self, Wish};

/// The API server answers within this.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Parser)]
#[command(name = "kubectl-clickstream", bin_name = "kubectl clickstream", version, about = "Looks after pipelines")]
struct Cli {
    /// Namespace; the context's own unless said.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// Context of the kubeconfig; the current one unless said.
    #[arg(long, global = true)]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How a pipeline, or all of them, are doing.
    Status {
        /// The pipeline.
        name: Option<String>,
    },
    /// What waits for approval; or, with a manifest, what it would make, without a cluster.
    Plan {
        /// The pipeline.
        #[arg(required_unless_present = "file")]
        name: Option<String>,
        /// The manifest.
        #[arg(short, long, conflicts_with = "name")]
        file: Option<PathBuf>,
    },
    /// Have a plan carried out.
    Approve {
        /// The pipeline.
        name: String,
        /// The plan's hash, as `plan` shows it.
        hash: String,
    },
    /// Touch nothing of it until `resume`.
    Pause {
        /// The pipeline.
        name: String,
    },
    /// Go on, after `pause` or `drain`.
    Resume {
        /// The pipeline.
        name: String,
    },
    /// Restart all pods, one part after the other.
    Restart {
        /// The pipeline.
        name: String,
    },
    /// Stop all pods and wait until they are gone; topics, buckets and checkpoints stay.
    Drain {
        /// The pipeline.
        name: String,
        /// Seconds to wait.
        #[arg(long, default_value_t = 120)]
        timeout: u64,
    },
    /// What a field is, and who set it.
    Explain {
        /// The pipeline.
        name: String,
        /// The field, as `spec.process.replicas`.
        field: String,
    },
}

fn main() -> ExitCode {
    // A build of the whole workspace has two providers of cryptography in it: say which.
    rustls::crypto::ring::default_provider().install_default().expect("nothing was installed before");
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.context("failed to start").and_then(|runtime| runtime.block_on(run(&cli)));
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    if let Command::Plan { file: Some(file), .. } = &cli.command {
        return offline(file, cli.namespace.as_deref());
    }
    let api = connect(cli).await?;
    let read = async |name: &str| api.get(name).await.with_context(|| format!("failed to read pipeline {name}"));
    match &cli.command {
        Command::Status { name: Some(name) } => print!("{}", plugin::page(&read(name).await?)),
        Command::Status { name: None } => {
            let all = api.list(&ListParams::default()).await.context("failed to list pipelines")?;
            let pages: Vec<String> = all.items.iter().map(plugin::page).collect();
            print!("{}", pages.join("\n"));
        }
        Command::Plan { name, .. } => print!("{}", plugin::plan(&read(name.as_deref().unwrap_or_default()).await?)),
        Command::Explain { name, field } => print!("{}", plugin::explain(&read(name).await?, field)),
        Command::Approve { name, hash } => tell(&api, name, Wish::Approve { hash }).await?,
        Command::Pause { name } => tell(&api, name, Wish::Pause).await?,
        Command::Resume { name } => tell(&api, name, Wish::Resume).await?,
        Command::Restart { name } => {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            tell(&api, name, Wish::Restart { now: &now }).await?;
        }
        Command::Drain { name, timeout } => {
            tell(&api, name, Wish::Drain).await?;
            let drained = tokio::time::timeout(Duration::from_secs(*timeout), drained(&api, name)).await;
            drained.with_context(|| format!("pods of {name} are still there after {timeout} s"))??;
            println!("{name} has no pods any more");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn offline(file: &PathBuf, namespace: Option<&str>) -> anyhow::Result<ExitCode> {
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    match operator::plan::plan(&text, namespace, "clickstream:latest") {
        Ok(shown) => print!("{shown}"),
        Err(problems) => {
            eprintln!("error: {}: {problems}", file.display());
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn connect(cli: &Cli) -> anyhow::Result<Api<ClickstreamPipeline>> {
    let options = KubeConfigOptions { context: cli.context.clone(), ..KubeConfigOptions::default() };
    let mut config = Config::from_kubeconfig(&options).await.context("no cluster: is there a kubeconfig?")?;
    config.read_timeout = Some(READ_TIMEOUT);
    let namespace = cli.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("failed to connect to the API server")?;
    Ok(Api::namespaced(client, &namespace))
}

async fn tell(api: &Api<ClickstreamPipeline>, name: &str, wish: Wish<'_>) -> anyhow::Result<()> {
    let params = PatchParams { field_manager: Some("kubectl-clickstream".into()), ..PatchParams::default() };
    let written = api.patch(name, &params, &Patch::Merge(plugin::patch(wish))).await;
    written.with_context(|| format!("failed to change pipeline {name}"))?;
    println!("pipeline {name} changed; `kubectl clickstream status {name}` shows what comes of it");
    Ok(())
}

async fn drained(api: &Api<ClickstreamPipeline>, name: &str) -> anyhow::Result<()> {
    let mut looks = tokio::time::interval(Duration::from_secs(1));
    loop {
        looks.tick().await;
        if plugin::is_drained(&api.get(name).await.with_context(|| format!("failed to read pipeline {name}"))?) {
            return Ok(());
        }
    }
}
