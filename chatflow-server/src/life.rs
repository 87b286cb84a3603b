//! From start to shutdown.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use chatflow_core::{Engine, NodeId, NodeInfo};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admission::Admission;
use crate::attempts::Attempts;
use crate::backup::Backups;
use crate::cluster::Cluster;
use crate::config::{Config, ConfigError, Role};
use crate::http::{self, App};
use crate::listener::{self, Entrance, Listener};
use crate::wiring;

/// Serves until a signal, then drains. The exit code says whether everything was finished.
///
/// # Errors
/// An address can't be listened on, or a backend can't be reached.
pub(crate) async fn run(config: Config) -> Result<ExitCode, ConfigError> {
    let mut signals = Signals::catch()?;
    // Addresses first: whoever is second on a port must not touch the first one's history.
    let public = bind("server.listen", config.server.listen)?;
    let admin = config.server.admin_listen.map(|address| bind("server.admin_listen", address)).transpose()?;
    let address = local_address(&public)?;
    let node = node_id(&config, address);
    let wiring::Parts { engine, store, cache, accounts } = wiring::parts(&config, node.clone()).await?;
    let cluster = Arc::new(join(&config, &node, address, &engine).await?);
    let durable = engine.health().await.durable;
    tracing::info!(
        node = %node, listen = %address, broker = %config.broker.url, store = %config.store.url, cache = %config.cache.url, durable,
        version = env!("CARGO_PKG_VERSION"), "started"
    );
    let files = listener::raise_file_limit();
    if let Some(files) = files.filter(|files| *files < config.limits.connections as u64) {
        tracing::warn!(files, connections = config.limits.connections, "fewer files may be open than limits.connections allows");
    }

    let config = Arc::new(config);
    let backups = Backups::new(&config, engine.clone(), store);
    let attempts = Arc::new(Attempts::new(config.auth.login_rate));
    let app = App {
        engine: engine.clone(),
        cache,
        cluster: cluster.clone(),
        accounts,
        attempts,
        backups: backups.clone(),
        config: config.clone(),
        started: Instant::now(),
        durable,
    };
    let router = http::router(app);
    let admission = Admission::new(&config.limits);
    let (stop, stopped) = watch::channel(false);
    let mut serving = JoinSet::new();
    let mut serve = |tcp, entrance| {
        let listener = Listener { tcp, entrance, admission: admission.clone(), limits: config.limits.clone() };
        serving.spawn(listener.serve(router.clone(), stopped.clone()));
    };
    let admin_address = admin.as_ref().map(local_address).transpose()?;
    serve(public, Entrance::Public);
    if let Some(admin) = admin {
        serve(admin, Entrance::Admin);
    }
    let backing_up = backups.map(|backups| tokio::spawn(backups.run()));
    greet(address, admin_address, &config);

    let name = signals.next().await;
    tracing::info!(signal = name, "shutting down");
    // Requests are still answered while the engine drains: `/ready` with 503, so that a balancer sees it, and new
    // connections with 503, so that their clients go elsewhere.
    backing_up.inspect(tokio::task::JoinHandle::abort);
    engine.set_alternates(cluster.alternates());
    cluster.drain();
    let report = tokio::select! {
        report = engine.shutdown(config.server.drain) => report,
        name = signals.next() => return Ok(give_up(name, &engine)),
    };
    let _ = stop.send(true);
    tokio::select! {
        () = async {
            cluster.leave().await;
            while serving.join_next().await.is_some() {}
        } => {}
        _ = signals.next() => {}
    }
    if report.unanswered > 0 || report.connections > 0 {
        tracing::warn!(unanswered = report.unanswered, connections = report.connections, "not everything was finished in time");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn catch() -> Result<Self, ConfigError> {
        let catch = |kind| signal(kind).map_err(|error| ConfigError::line(format!("signals can't be caught: {error}")));
        Ok(Self { terminate: catch(SignalKind::terminate())?, interrupt: catch(SignalKind::interrupt())? })
    }

    /// The name of the next one. Cancel safe.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn give_up(signal: &str, engine: &Engine) -> ExitCode {
    let stats = engine.stats();
    let done = stats.persisted + stats.repeats + stats.conflicts + stats.dead_letters;
    let unflushed = stats.accepted.saturating_sub(done);
    eprintln!(
        "chatflow-server: ended by a second {signal}: {unflushed} accepted messages were not yet in the history, {} connections were cut",
        stats.connections
    );
    ExitCode::FAILURE
}

fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, ConfigError> {
    listener::bind(address).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the address is in use: end the process that listens there, or choose another".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
            std::io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege: choose another, or grant it".to_owned(),
            _ => error.to_string(),
        };
        ConfigError::at(key, &address.to_string(), advice)
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, ConfigError> {
    listener.local_addr().map_err(|error| ConfigError::line(format!("the address that is listened on is not known: {error}")))
}

/// The configured name, or one that stays the same after a restart: then the node takes its leases back at once,
/// instead of waiting for those of a stranger to run out.
fn node_id(config: &Config, address: SocketAddr) -> NodeId {
    if !config.node.id.is_empty() {
        return config.node.id.as_str().into();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).take(56).collect();
    let host = if host.is_empty() { "node".to_owned() } else { host };
    format!("{host}-{}", address.port()).into()
}

/// Tells the others that this node is there.
async fn join(config: &Config, node: &NodeId, address: SocketAddr, engine: &Engine) -> Result<Cluster, ConfigError> {
    let directory = wiring::directory(config)?;
    let url = url(config, address);
    if url.is_none() && directory.is_some() {
        tracing::warn!(
            "clients are not sent here by other nodes: server.public_url is not set, and server.listen is no address to connect to"
        );
    }
    let boot = u64::try_from(chatflow_core::Timestamp::now().0).unwrap_or_default();
    let mut me =
        NodeInfo::new(node.clone(), boot).with_url(url.unwrap_or_default()).with_roles(config.node.roles.iter().map(Role::to_string));
    me.version = env!("CARGO_PKG_VERSION").to_owned();
    Cluster::join(directory, me, engine.clone()).await.map_err(|error| {
        let (directory, broker) = (&config.cluster.directory, &config.broker.url);
        ConfigError::line(format!(
            "the directory of nodes does not let this one in, with cluster.directory = {directory:?} and broker.url = {broker:?}: {error}"
        ))
    })
}

/// How clients reach this server; `None` when only somebody else could say.
fn url(config: &Config, address: SocketAddr) -> Option<String> {
    match config.server.public_url.trim_end_matches('/') {
        "" if address.ip().is_unspecified() => None,
        "" => Some(format!("http://{address}")),
        url => Some(url.to_owned()),
    }
}

/// One line for the person, and for the script, that started this.
fn greet(address: SocketAddr, admin: Option<SocketAddr>, config: &Config) {
    let url = url(config, address).unwrap_or_else(|| format!("http://localhost:{}", address.port()));
    let mut out = std::io::stdout().lock();
    let admin = admin.map(|admin| format!(", admin calls on {admin}")).unwrap_or_default();
    // Nobody may be reading; that is no reason not to serve.
    let _ = writeln!(out, "ChatFlow is listening on {address}{admin} - open {url}/ to chat").and_then(|()| out.flush());
}
