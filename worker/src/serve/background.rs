//! A server on a thread of its own, with a small runtime: what roles and runs put beside their work.

use std::{future::Future, io, net::SocketAddr, pin::Pin, thread, thread::JoinHandle};

use anyhow::Context;
use tokio::{net::TcpListener, sync::oneshot};

/// Done once the server is told to stop, or the one who could tell is gone.
pub type Stopped = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that runs.
pub struct Background {
    /// Where it listens.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Takes a port, so that a taken one is told before anything starts. `flag` chooses another.
///
/// # Errors
/// Where the port cannot be had.
pub fn bind(listen: SocketAddr, flag: &str) -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(listen)
        .with_context(|| format!("failed to listen on {listen}; if the port is taken, choose another with {flag}"))?;
    listener.set_nonblocking(true).context("failed to set up the listener")?;
    Ok(listener)
}

impl Background {
    /// Lets `serve` answer at `listener` on `workers` threads, until [`Background::stop`].
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn start<F: Future<Output = io::Result<()>>>(
        name: &'static str,
        workers: usize,
        listener: std::net::TcpListener,
        serve: impl FnOnce(TcpListener, Stopped) -> F + Send + 'static,
    ) -> anyhow::Result<Self> {
        let address = listener.local_addr().context("the listener has no address")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
        let runtime = runtime.with_context(|| format!("failed to start the {name} server"))?;
        let (stop, told) = oneshot::channel::<()>();
        let body = move || {
            let stopped: Stopped = Box::pin(async { drop(told.await) });
            let served = runtime.block_on(async { serve(TcpListener::from_std(listener)?, stopped).await });
            if let Err(error) = served {
                tracing::error!(%error, %address, "the {name} server stopped");
            }
        };
        let thread = thread::Builder::new().name(name.into()).spawn(body);
        Ok(Self { address, stop, thread: thread.with_context(|| format!("no thread for the {name} server"))? })
    }

    /// Finishes the requests under way and ends.
    pub fn stop(self) {
        let _server_may_be_gone = self.stop.send(());
        drop(self.thread.join());
    }
}
