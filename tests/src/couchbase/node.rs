//! A node: two ports, a thread for each connection, and a switch.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Shared, keyvalue, management, topology::Ports};

/// A connection, in the clear or not.
pub(super) trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// What serves a connection until it ends.
type Serve = fn(Box<dyn Stream>, usize, &Shared) -> io::Result<()>;

pub(super) struct Node {
    pub(super) ports: Ports,
    at: usize,
    shared: Arc<Shared>,
    tls: Option<Arc<ServerConfig>>,
    running: Option<Running>,
}

/// A node that is on.
struct Running {
    /// Connections of both ports; `None` once the node is off, so that none comes after. Written by the listening threads.
    open: Arc<Mutex<Option<Vec<TcpStream>>>>,
    listening: Vec<JoinHandle<()>>,
}

impl Node {
    pub(super) fn start(at: usize, shared: &Arc<Shared>, tls: Option<&Arc<ServerConfig>>) -> io::Result<Self> {
        let ports = Ports { key_value: 0, management: 0 };
        let mut node = Self { ports, at, shared: Arc::clone(shared), tls: tls.cloned(), running: None };
        node.resume()?;
        Ok(node)
    }

    pub(super) fn resume(&mut self) -> io::Result<()> {
        self.stop();
        let key_value = TcpListener::bind(("127.0.0.1", self.ports.key_value))?;
        let management = TcpListener::bind(("127.0.0.1", self.ports.management))?;
        self.ports = Ports { key_value: key_value.local_addr()?.port(), management: management.local_addr()?.port() };
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let listen = |listener: TcpListener, serve: Serve| {
            let (open, shared, tls, at) = (Arc::clone(&open), Arc::clone(&self.shared), self.tls.clone(), self.at);
            std::thread::spawn(move || {
                accept(&listener, &open, &|stream| serve(secured(stream, tls.as_ref())?, at, &shared))
            })
        };
        let listening = vec![listen(key_value, keyvalue::serve), listen(management, management::serve)];
        self.running = Some(Running { open, listening });
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        let Some(Running { open, listening }) = self.running.take() else { return };
        let connections = open.lock().unwrap_or_else(PoisonError::into_inner).take();
        for connection in connections.into_iter().flatten() {
            // It may have ended by itself.
            let _ = connection.shutdown(Shutdown::Both);
        }
        // The threads that listen look up when somebody comes.
        for port in [self.ports.key_value, self.ports.management] {
            let _ = TcpStream::connect(("127.0.0.1", port));
        }
        for thread in listening {
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

fn secured(stream: TcpStream, tls: Option<&Arc<ServerConfig>>) -> io::Result<Box<dyn Stream>> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
    Ok(Box::new(StreamOwned::new(connection, stream)))
}

/// Serves every connection by a thread, until the node is off.
fn accept(
    listener: &TcpListener,
    open: &Mutex<Option<Vec<TcpStream>>>,
    serve: &(dyn Fn(TcpStream) -> io::Result<()> + Sync),
) {
    std::thread::scope(|scope| {
        for connection in listener.incoming() {
            let Ok(connection) = connection else { continue };
            let (Ok(ours), Ok(end)) = (connection.try_clone(), connection.try_clone()) else { continue };
            match open.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(open) => open.push(ours),
                None => return,
            }
            scope.spawn(move || {
                // A client that breaks off has nobody to tell.
                let _ = serve(connection);
                let _ = end.shutdown(Shutdown::Both);
            });
        }
    });
}
