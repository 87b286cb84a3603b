//! The connection to Redis, made when it is needed.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind as Kind, IntoConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, Value,
};
use tokio::time::timeout;

use super::config::{RedisDirectoryConfig, without_secret};
use crate::{Error, ErrorKind, Result};

/// What connects.
enum Way {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// What is connected. Its clones share a connection.
#[derive(Clone)]
enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// One connection to Redis or to a cluster of it, replaced when a call fails.
pub(super) struct Link {
    way: Way,
    /// Where it leads, without secrets.
    place: String,
    timeout: Duration,
    /// The connection of late. The lock is held to look or to replace only.
    connection: Mutex<Option<Connection>>,
}

impl Link {
    /// Nothing is connected before the first call.
    pub(super) fn new(config: &RedisDirectoryConfig) -> Result<Self> {
        let place = without_secret(&config.url);
        let wrong = |why: &str| {
            let text = format!(
                "the directory's URL {place} is not understood ({why}): redis://[user:password@]host[:port][/db], rediss://…, \
                 redis-cluster://host:port,host:port or rediss-cluster://…"
            );
            Error::new(ErrorKind::Config, "redis", text)
        };
        if !(1..=64).contains(&config.prefix.chars().count()) || config.prefix.contains(['{', '}']) {
            return Err(Error::new(ErrorKind::Config, "redis", "the directory's prefix must be 1 to 64 characters without braces"));
        }
        let way = way(config).map_err(|why| wrong(&why))?;
        Ok(Self { way, place, timeout: config.timeout, connection: Mutex::new(None) })
    }

    /// What Redis answers to a command. A connection that was lost since the last call is made anew, once.
    ///
    /// # Errors
    /// It can't be reached in time, does not let us in, or refuses.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value> {
        let answer = async {
            if let Some(known) = self.known() {
                match request(known, command).await {
                    Err(error) if error.is_unrecoverable_error() || error.is_connection_dropped() => self.forget(),
                    answer => return answer,
                }
            }
            let fresh = self.connect().await?;
            *self.connection.lock() = Some(fresh.clone());
            request(fresh, command).await
        };
        match timeout(self.timeout, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.forget();
                Err(self.failure(error))
            }
            Err(_) => {
                self.forget();
                let text = format!("Redis at {} gave no answer within {} s", self.place, self.timeout.as_secs_f32());
                Err(Error::new(ErrorKind::Timeout, "redis", text))
            }
        }
    }

    fn known(&self) -> Option<Connection> {
        self.connection.lock().clone()
    }

    fn forget(&self) {
        self.connection.lock().take();
    }

    async fn connect(&self) -> Result<Connection, RedisError> {
        match &self.way {
            Way::Single(client) => {
                let config =
                    AsyncConnectionConfig::new().set_connection_timeout(Some(self.timeout)).set_response_timeout(Some(self.timeout));
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Single)
            }
            Way::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }

    /// What an error of the client or the server means. Neither repeats passwords.
    fn failure(&self, error: RedisError) -> Error {
        let advice = match error.kind() {
            Kind::AuthenticationFailed => "user and password of the directory's URL are not right",
            _ if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => "user and password of the directory's URL are not right",
            Kind::Server(ServerErrorKind::NoPerm) => "the user of the directory's URL may not do what the directory has to",
            Kind::InvalidClientConfig => "the directory's URL is not right",
            _ => "",
        };
        let (kind, text) = match advice {
            "" if error.is_timeout() => (ErrorKind::Timeout, format!("Redis at {}", self.place)),
            "" => (ErrorKind::Unavailable, format!("Redis at {}", self.place)),
            advice => (ErrorKind::Config, format!("Redis at {}: {advice}", self.place)),
        };
        Error::new(kind, "redis", text).with_source(error)
    }
}

async fn request(mut connection: Connection, command: &Cmd) -> Result<Value, RedisError> {
    let answer = match &mut connection {
        Connection::Single(connection) => connection.req_packed_command(command).await,
        Connection::Cluster(connection) => connection.req_packed_command(command).await,
    };
    answer?.extract_error()
}

fn way(config: &RedisDirectoryConfig) -> Result<Way, String> {
    let (scheme, rest) = config.url.split_once("://").ok_or("it has no scheme")?;
    let (cluster, scheme) = match scheme {
        "redis" | "rediss" => (false, scheme),
        "redis-cluster" => (true, "redis"),
        "rediss-cluster" => (true, "rediss"),
        _ => return Err("another scheme".into()),
    };
    if rest.contains('#') {
        // `#insecure` would switch the certificate's check off.
        return Err("it has a fragment".into());
    }
    let (credentials, hosts) = rest.rsplit_once('@').map_or((String::new(), rest), |(who, hosts)| (format!("{who}@"), hosts));
    let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
    let infos = hosts.map(|host| format!("{scheme}://{credentials}{host}").into_connection_info());
    // The client's own errors don't repeat the URL.
    let infos = infos.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if scheme == "rediss" {
        // The client asks for the process's provider and can't be given one. Somebody may have installed theirs: that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let certificates = || TlsCertificates { client_tls: None, root_cert: config.root_certificates.clone() };
    let trusts = scheme == "rediss" && config.root_certificates.is_some();
    let single = |client| Way::Single(Box::new(client));
    let way = match (cluster, &infos[..]) {
        (_, []) => return Err("it names no host".into()),
        (false, [_, _, ..]) => return Err("several hosts are a cluster's".into()),
        (false, [info]) if trusts => Client::build_with_tls(info.clone(), certificates()).map(single),
        (false, [info]) => Client::open(info.clone()).map(single),
        (true, infos) if infos.iter().any(|info| info.redis_settings().db() != 0) => {
            return Err("a cluster has no numbered databases".into());
        }
        (true, _) => {
            let builder = ClusterClient::builder(infos).connection_timeout(config.timeout).response_timeout(config.timeout).retries(2);
            let builder = if trusts { builder.certs(certificates()) } else { builder };
            builder.build().map(|client| Way::Cluster(Box::new(client)))
        }
    };
    way.map_err(|error| error.to_string())
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_url() {
        let link = |url: &str| Link::new(&RedisDirectoryConfig::new(url));
        for good in ["redis://h", "redis://ada:p%40ss@h:1/3", "rediss://h", "redis-cluster://:secret@a:1,b:2", "rediss-cluster://a:1"] {
            assert!(link(good).is_ok(), "{good}");
        }
        let wrong =
            ["", "redis://", "http://a", "redis://a,b", "redis-cluster://a:1/2", "redis://a/x", "rediss://a/#insecure", "x://ada:secret@a"];
        for wrong in wrong {
            let error = link(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        for prefix in ["", "a{b", "a}b"] {
            assert!(Link::new(&RedisDirectoryConfig::new("redis://h").with_prefix(prefix)).is_err(), "{prefix:?}");
        }
    }
}
