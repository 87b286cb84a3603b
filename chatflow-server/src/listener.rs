//! The accept loop: TCP connections in, HTTP/1.1 on each, until told to stop.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};

use crate::admission::{Admission, Guest};
use crate::config::LimitsSection;

/// Connections that wait in the kernel to be accepted: enough for everybody to come back at once after a restart.
const BACKLOG: u32 = 4_096;
/// How long the requests that are being answered may take once the listener stops.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Which of the two addresses a request came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// `server.listen`.
    Public,
    /// `server.admin_listen`.
    Admin,
}

/// Who a request comes from: an extension of every request.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    /// The other end of the connection.
    pub(crate) address: SocketAddr,
    /// Where it came in.
    pub(crate) entrance: Entrance,
    /// Its place among the connections.
    pub(crate) guest: Arc<Guest>,
}

/// Listens on `address`.
///
/// # Errors
/// The address is in use, not of this machine, or not allowed.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Or a restart would have to wait for the last connections' TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Lets the process open as many files as the system lets it ask for: every connection is one, and the usual first limit
/// of 1,024 is for programs that use `select`. Answers the limit; `None` when there is none, or it is not known.
pub(crate) fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files can't be raised");
            current
        }
    }
}

/// One listening address, being served.
#[derive(Debug)]
pub(crate) struct Listener {
    /// What is listened on.
    pub(crate) tcp: TcpListener,
    /// Which of the two addresses it is.
    pub(crate) entrance: Entrance,
    /// Who may come in.
    pub(crate) admission: Arc<Admission>,
    /// Sizes and time-outs of a request.
    pub(crate) limits: LimitsSection,
}

impl Listener {
    /// Accepts and serves until `stop` is true, then lets requests that are being answered finish. WebSocket connections
    /// are not waited for: they are the engine's by then.
    pub(crate) async fn serve(self, router: Router, mut stop: watch::Receiver<bool>) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.limits.handshake).max_buf_size(self.limits.headers).half_close(false);
        let router = TowerToHyperService::new(router);
        let (busy, mut idle) = mpsc::channel::<()>(1);
        loop {
            let (stream, address) = tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        rest_after(&error).await;
                        continue;
                    }
                },
                () = told_to(&mut stop) => break,
            };
            let Some(guest) = self.admission.enter(address.ip()) else { continue };
            let visitor = Visitor { address, entrance: self.entrance, guest: Arc::new(guest) };
            // Frames are written whole, so waiting for more before sending only costs time. Unset, they arrive all the same.
            let _ = stream.set_nodelay(true);
            let router = router.clone();
            let service = service_fn(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(visitor.clone());
                router.call(request)
            });
            let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
            let (mut stop, busy) = (stop.clone(), busy.clone());
            tokio::spawn(async move {
                let mut connection = pin!(connection);
                let ended = tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = told_to(&mut stop) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = ended {
                    tracing::debug!(%address, %error, "a connection failed");
                }
                drop(busy);
            });
        }
        drop((self.tcp, busy));
        // Nothing is ever sent: it ends when the last sender is gone.
        let _ = tokio::time::timeout(LAST_ANSWERS, idle.recv()).await;
    }
}

/// Returns once `stop` is true, or nobody is left to say so. Cancel safe.
async fn told_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A failed `accept` of one connection says nothing about the next; out of file descriptors, it fails until one is closed.
async fn rest_after(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused) {
        return;
    }
    tracing::warn!(%error, "can't accept connections just now");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
