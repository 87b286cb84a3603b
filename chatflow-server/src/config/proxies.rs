//! Whose word on a client's address counts.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Each proxy adds whom it got the request from.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies that are trusted: addresses, and networks such as `10.0.0.0/8`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Whether `address` is one of them.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client behind `peer`: `peer` itself unless that is trusted, else the rightmost address of `X-Forwarded-For` that is
    /// none of the proxies. What stands further left may be anybody's invention.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lists: Vec<_> = headers.get_all(FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        for entry in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
            if !self.trust(client) {
                break;
            }
            // An entry that is no address ends the way back: the proxy that added it did not say whom it got the request from.
            let Some(address) = address(entry.trim()) else { break };
            client = address;
        }
        client
    }
}

/// `192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`, and both with a port, as some balancers write them.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

impl Serialize for Proxies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Proxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let network = |text: &String| text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let networks = Vec::<String>::deserialize(deserializer)?.iter().map(network).collect::<Option<_>>();
        networks.map(Self).ok_or_else(|| serde::de::Error::custom("not an address or network"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, lists: &[&str]) -> String {
        let proxies: Proxies = serde_json::from_str(r#"["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]"#).unwrap();
        let headers = lists.iter().map(|list| (FORWARDED_FOR, list.parse().unwrap())).collect();
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_rightmost_stranger_is_the_client_behind_trusted_proxies() {
        for (peer, lists, expected) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:127.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", &["203.0.113.9,198.51.100.7 , 10.1.2.3"], "198.51.100.7"),
            ("127.0.0.1", &["203.0.113.9", "198.51.100.7", "10.1.2.3,2001:db8::1"], "198.51.100.7"),
            ("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            ("127.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("127.0.0.1", &["[2001:dead::1]:4711"], "2001:dead::1"),
            ("127.0.0.1", &["[2001:dead::1]"], "2001:dead::1"),
            ("127.0.0.1", &["198.51.100.7, unknown"], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, "], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.7, x, 10.0.0.1"], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, lists), expected, "{peer} {lists:?}");
        }
    }
}
