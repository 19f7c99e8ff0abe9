//! Serves a router with what a server on the open net needs and `axum::serve` does not have: a time-out for clients
//! that never end their header, and a bound on connections.

use std::{future::Future, sync::Arc};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::ingest::limits::{CONNECTIONS_MAX, HEADER_TIMEOUT};

/// Serves `router` until `ended` does; connections that are open then are left to the runtime.
pub async fn serve(listener: TcpListener, router: Router, ended: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut ended = std::pin::pin!(ended);
    loop {
        let accepted = tokio::select! {
            () = &mut ended => return,
            accepted = listener.accept() => accepted,
        };
        // Out of file descriptors, or a client that is gone already: the next one may do better.
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // An error here is a client that went away or spoke no HTTP: nobody is left to tell.
            let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            drop(place);
        });
    }
}
