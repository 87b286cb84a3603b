//! Several servers on one broker, behind HAProxy, under the classic load, and what a fault costs them.
//!
//! `cargo bench --bench cluster -- [--broker redis] [--store sqlite] [--servers 4] [--fault kill] [-- arguments of chatflow-client load]`
//!
//! Starts the broker, the store, the release servers and HAProxy (as `examples/deploy/haproxy.cfg` has it) for itself, runs `chatflow-client
//! load` against them, and then compares what the servers have in their histories, row by row. The programs are built before:
//! `cargo build --release -p chatflow-server --features full -p chatflow-client`. Everything shares this machine, and so do the figures.
//!
//! Exit code: that of the load, or 1 when histories differ. `cargo test` makes a short run on each broker that is there.

#![allow(clippy::unwrap_used)]

mod args;
mod broker;
#[path = "../database/mod.rs"]
mod database;
mod fault;
mod figures;
mod same;
mod usage;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use chatflow_testkit::{Cluster, Options, Redis, Service, raise_file_limit};
use tokio::process::Command;

use args::{Args, Cache};
use broker::Broker;
use usage::Usage;
use watch::Watch;

#[tokio::main]
async fn main() -> ExitCode {
    raise_file_limit();
    for args in &Args::all() {
        let code = run(args).await;
        if code != 0 {
            return ExitCode::from(code);
        }
    }
    ExitCode::SUCCESS
}

/// One load, from nothing to the comparison of what is left of it.
async fn run(args: &Args) -> u8 {
    println!("{} servers on {:?}, history in {:?}, fault: {:?}", args.servers, args.broker, args.store, args.fault);
    let broker = Broker::start(args).await;
    let store = args.store.start(&args.store_settings).await;
    let url = broker.url();
    let cache = if args.cache == Cache::Redis { Some(Service::start_new(Redis::new()).await) } else { None };
    let cache_url = match &cache {
        Some(redis) => redis.url(),
        None if args.cache == Cache::Memory => "memory:".to_owned(),
        None => "none".to_owned(),
    };
    let options = |_| {
        let options =
            Options::new().broker(&url).set("limits.publish_rate_anonymous", 0).set("log.level", "warn").set("cache.url", &cache_url);
        let options = store.iter().fold(options, |options, store| options.store(store.url()));
        args.settings.iter().fold(options, |options, (key, value)| options.set(key, value))
    };
    let mut cluster = Cluster::start(args.servers, options).await;
    let mut load = Command::new(program("chatflow-client"));
    load.arg("load").arg(cluster.url()).args(args.load());
    let mut load = load.kill_on_drop(true).spawn().unwrap();
    let begun = Instant::now();
    let mut usage = Usage::default();
    usage.of("client", load.id().map(|id| id.cast_signed()));
    usage.of("HAProxy", cluster.balancer.processes());
    usage.of("broker", broker.processes());
    usage.of("store", processes(store.as_ref()));
    usage.of("cache", processes(cache.as_ref()));
    usage.of("servers", cluster.servers.iter().map(chatflow_testkit::Server::id));
    let mut watch = Watch::new(&cluster);
    let mut fault = fault::Fault::new(args);
    let status = loop {
        tokio::select! {
            status = load.wait() => break status.unwrap(),
            () = watch.look() => {
                fault.proceed(begun.elapsed(), &mut cluster, &broker, &mut watch).await;
                usage.of("broker", broker.processes());
                usage.of("store", processes(store.as_ref()));
                usage.of("servers", cluster.servers.iter().map(chatflow_testkit::Server::id));
                usage.look();
            }
        }
    };
    usage.tell(begun.elapsed());
    watch.tell();
    let code = u8::try_from(status.code().unwrap_or(1)).unwrap_or(1);
    figures::caches(&cluster).await;
    let same = if args.keeps_history() { same::histories(&cluster).await } else { true };
    if !same || store.is_some() && !figures::agree(cluster, options(0)).await {
        return 1;
    }
    code
}

fn processes(store: Option<&Service>) -> Vec<i32> {
    store.map(Service::processes).unwrap_or_default()
}

/// A program that was built with this one: benches lie in `deps` beside it.
fn program(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name);
    assert!(path.is_file(), "{} is not there: cargo build --release -p chatflow-server --features full -p chatflow-client", path.display());
    path
}
