//! The address of a server.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

use crate::Error;

/// A server's address: scheme, host, port and an optional path in front of its own paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    secure: bool,
    host: String,
    port: u16,
    prefix: String,
}

impl Endpoint {
    /// Reads one address or several, separated by commas.
    ///
    /// # Errors
    /// [`Error::BadUrl`] names the one that is wrong.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, Error> {
        text.split(',').map(|one| one.trim().parse()).collect()
    }

    /// Whether it is reached through TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host's name or IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port as they stand in an HTTP `Host` header: a scheme's own port is left out.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let own_port = if self.secure { 443 } else { 80 };
        if self.port == own_port { host } else { format!("{host}:{}", self.port) }
    }

    /// The path (and query) of `path` on this server.
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The whole `ws://` or `wss://` URL of `path`.
    pub fn websocket_url(&self, path: &str) -> String {
        format!("{self}{path}")
    }

    /// The whole `http://` or `https://` URL of `path`.
    pub fn http_url(&self, path: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}{path}", self.authority(), self.prefix)
    }
}

/// As a `ws://` or `wss://` URL.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    /// Takes `ws`, `wss`, `http` and `https` URLs, and `host:port`, which means `ws`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |problem: &str| Error::BadUrl { url: text.to_owned(), problem: problem.to_owned() };
        let (scheme, rest) = text.split_once("://").unwrap_or(("ws", text));
        let secure = match scheme {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(bad("it begins with ws://, wss://, http:// or https://")),
        };
        if rest.is_empty() {
            return Err(bad("it is written like ws://127.0.0.1:8080"));
        }
        let scheme = if secure { "https" } else { "http" };
        let uri: Uri = format!("{scheme}://{rest}").parse().map_err(|_| bad("it is written like ws://127.0.0.1:8080"))?;
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("a name or password can't stand in it; give a token instead"));
        }
        let port = match (authority.port_u16(), authority.as_str().rsplit_once(':')) {
            (Some(0), _) => return Err(bad("port 0 can't be connected to")),
            (Some(port), _) => port,
            // `Uri` takes "host:" and "host:99999" and only says that there is no port.
            (None, Some((_, after))) if !after.ends_with(']') => return Err(bad("the port is a number from 1 to 65535")),
            (None, _) => {
                if secure {
                    443
                } else {
                    80
                }
            }
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(bad("it names no host"));
        }
        if uri.query().is_some() {
            return Err(bad("it has a query; rooms and options are given apart"));
        }
        let prefix = uri.path().trim_end_matches('/');
        if prefix.ends_with("/chat") || prefix.contains("/chat/") {
            return Err(bad("leave out /chat and the room: only the server's address is wanted"));
        }
        Ok(Self { secure, host: host.to_owned(), port, prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Endpoint {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        for (text, url, port) in [
            ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080", 8080),
            ("localhost:8080", "ws://localhost:8080", 8080),
            ("http://chat.example/", "ws://chat.example", 80),
            ("wss://chat.example", "wss://chat.example", 443),
            ("https://chat.example:443/team/", "wss://chat.example/team", 443),
            ("ws://[::1]:9", "ws://[::1]:9", 9),
            ("ws://[::1]", "ws://[::1]", 80),
        ] {
            let endpoint = parse(text);
            assert_eq!((endpoint.to_string().as_str(), endpoint.port()), (url, port), "{text}");
        }
        assert_eq!(parse("ws://[::1]:9").host(), "::1");
        assert_eq!(parse("wss://h/x").http_url("/health"), "https://h/x/health");
        assert_eq!(parse("wss://h/x").websocket_url("/chat"), "wss://h/x/chat");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "written like"),
            ("ws://", "written like"),
            ("ftp://h", "begins with"),
            ("ws://h:0", "port 0"),
            ("ws://h:99999", "1 to 65535"),
            ("ws://h:", "1 to 65535"),
            ("ws://ada:secret@h", "token"),
            ("ws://h/chat/7", "leave out /chat"),
            ("ws://h/chat", "leave out /chat"),
            ("ws://h?after=1", "query"),
            ("ws://a b", "written like"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_list_is_separated_by_commas_and_names_the_bad_one() {
        assert_eq!(Endpoint::parse_list("ws://a, wss://b:1").unwrap().len(), 2);
        assert!(Endpoint::parse_list("ws://a,,").is_err());
    }
}
