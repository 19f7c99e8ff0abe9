//! Connections: how many, how long they may dawdle, how they end. axum's own loop knows no time-out for heads.

use std::{future::Future, io, pin::pin, sync::Arc};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore, time};

use super::limits;

/// Accepts connections until `stop` is done; then calls `stopping` and waits for requests under way.
///
/// # Errors
/// When the listener fails.
pub async fn accept(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    stopping: impl FnOnce(),
) -> io::Result<()> {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits::HEAD_TIME_MAX);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let mut stop = pin!(stop);
    loop {
        // A place first: when all are taken, new connections wait in the kernel's queue.
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place.expect("the semaphore is never closed"),
            () = &mut stop => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) if is_out_of_files(&error) => {
                    tracing::warn!(%error, "cannot take more connections for a moment");
                    time::sleep(limits::OUT_OF_FILES_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            },
            () = &mut stop => break,
        };
        let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // Broken connections are the client's affair.
            let _broken = connection.await;
            drop(place);
        });
    }
    drop(listener);
    stopping();
    let _late = time::timeout(limits::DRAIN_TIME_MAX, graceful.shutdown()).await;
    Ok(())
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// `ENFILE` and `EMFILE`: others will give descriptors back.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}
