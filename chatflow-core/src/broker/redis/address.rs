//! What a broker's URL says.

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates};
use std::time::Duration;

use super::config::{RedisBrokerConfig, without_secret};
use crate::{Error, ErrorKind, Result};

/// Host and port of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Where Redis is, and who we are there.
#[derive(Debug)]
pub(super) struct Target {
    /// The server, or some of a cluster's.
    pub(super) seeds: Vec<Address>,
    pub(super) cluster: bool,
    tls: bool,
    root_certificates: Option<Vec<u8>>,
    /// Everything but the address.
    who: ConnectionInfo,
}

impl Target {
    /// What the configuration's URL means.
    pub(super) fn parse(config: &RedisBrokerConfig) -> Result<Self> {
        let refused = |why: &str| {
            let text = format!(
                "the broker's URL {} is not understood ({why}): redis://[user:password@]host[:port][/db], rediss://…, \
                 redis-cluster://host:port,host:port or rediss-cluster://…",
                without_secret(&config.url)
            );
            Error::new(ErrorKind::Config, "redis", text)
        };
        let (scheme, rest) = config.url.split_once("://").ok_or_else(|| refused("it has no scheme"))?;
        let (cluster, scheme) = match scheme {
            "redis" | "rediss" => (false, scheme),
            "redis-cluster" => (true, "redis"),
            "rediss-cluster" => (true, "rediss"),
            _ => return Err(refused("another scheme")),
        };
        if rest.contains('#') {
            return Err(refused("it has a fragment"));
        }
        let (credentials, hosts) = rest.rsplit_once('@').map_or(("", rest), |(credentials, hosts)| (credentials, hosts));
        let at = if credentials.is_empty() { "" } else { "@" };
        let mut infos = Vec::new();
        for host in hosts.split(',').map(str::trim).filter(|host| !host.is_empty()) {
            // The client's own errors don't repeat the URL.
            let info = format!("{scheme}://{credentials}{at}{host}").into_connection_info();
            infos.push(info.map_err(|error| refused(&error.to_string()))?);
        }
        if !cluster && infos.len() > 1 {
            return Err(refused("several hosts are a cluster's"));
        }
        let seeds = infos.iter().filter_map(|info| match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Address { host: host.clone(), port: *port })
            }
            _ => None,
        });
        let seeds = seeds.collect();
        let Some(who) = infos.into_iter().next() else { return Err(refused("it names no host")) };
        if cluster && who.redis_settings().db() != 0 {
            return Err(refused("a cluster has no numbered databases"));
        }
        let settings = who.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        // A machine that went without a word is found out by the probes where nothing is sent.
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5));
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        let who = who.set_redis_settings(settings).set_tcp_settings(tcp);
        Ok(Self { seeds, cluster, tls: scheme == "rediss", root_certificates: config.root_certificates.clone(), who })
    }

    /// The number of the database.
    pub(super) fn database(&self) -> i64 {
        self.who.redis_settings().db()
    }

    /// A client of the server at `address`.
    pub(super) fn client(&self, address: &Address) -> redis::RedisResult<Client> {
        let (host, port) = (address.host.clone(), address.port);
        if !self.tls {
            return Client::open(self.who.clone().set_addr(ConnectionAddr::Tcp(host, port)));
        }
        // The client asks for the process's provider and can't be given one. Somebody may have installed theirs: that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let addr = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        let info = self.who.clone().set_addr(addr);
        match &self.root_certificates {
            None => Client::open(info),
            root_cert => Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: root_cert.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target> {
        Target::parse(&RedisBrokerConfig::new(url))
    }

    #[test]
    fn the_forms_of_a_url() {
        let target = parse("redis://ada:p%40ss@example.org/3").unwrap();
        assert_eq!(target.seeds, [Address { host: "example.org".into(), port: 6379 }]);
        assert_eq!((target.cluster, target.tls, target.database()), (false, false, 3));
        assert_eq!(target.who.redis_settings().password(), Some("p@ss"));
        let target = parse("rediss-cluster://:secret@a:1,[::1]:2").unwrap();
        assert_eq!(target.seeds.iter().map(Address::to_string).collect::<Vec<_>>(), ["a:1", "::1:2"]);
        assert_eq!((target.cluster, target.tls), (true, true));
        for wrong in ["", "redis://", "http://a", "redis://a,b", "redis-cluster://a:1/2", "redis://a/x", "rediss://a/#insecure"] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
        }
        let error = parse("nonsense://ada:secret@a").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
