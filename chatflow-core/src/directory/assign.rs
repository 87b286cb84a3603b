//! Which node a new client goes to.

use super::NodeInfo;
use crate::MessageId;

/// Connections that are no difference: so many come and go between two heartbeats anyway.
const ALIKE: u64 = 16;

/// The node for a new client: of those that [take clients](NodeInfo::takes_clients), the one with fewer connections of two that
/// are drawn by lot; where these are much alike (up to 16 connections, or a tenth, apart), the one that accepts fewer messages a second.
///
/// Two are drawn because everybody sees the same, slightly old figures: sent to the least of all, all who come between two
/// heartbeats would meet there. ("The Power of Two Choices in Randomized Load Balancing", Mitzenmacher, 2001.)
pub fn assign(nodes: &[NodeInfo]) -> Option<&NodeInfo> {
    let able: Vec<_> = nodes.iter().filter(|node| node.takes_clients()).collect();
    let (one, other) = draw(able.len())?;
    Some(better(able[one], able[other]))
}

/// Two different places below `count`, in random order; the same twice when there is one only.
fn draw(count: usize) -> Option<(usize, usize)> {
    let lots = MessageId::new_v4().as_u128();
    let lot = |bits: u32, of: usize| (lots >> bits) as u32 as usize % of;
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            // The version's bits are fixed; these 32 of either end are all random.
            let (one, other) = (lot(96, count), lot(0, count - 1));
            Some((one, if other >= one { other + 1 } else { other }))
        }
    }
}

fn better<'a>(a: &'a NodeInfo, b: &'a NodeInfo) -> &'a NodeInfo {
    let (fewer, more) = if b.connections < a.connections { (b, a) } else { (a, b) };
    let alike = more.connections - fewer.connections <= ALIKE.max(more.connections / 10);
    if alike && more.rate < fewer.rate { more } else { fewer }
}

#[cfg(test)]
mod tests {
    use super::super::{API, GATEWAY};
    use super::*;

    fn node(name: &str, connections: u64, rate: u64) -> NodeInfo {
        let mut node = NodeInfo::new(name, 1).with_url(format!("http://{name}")).with_roles([GATEWAY]);
        (node.connections, node.rate) = (connections, rate);
        node
    }

    #[test]
    fn only_a_node_that_takes_clients_is_assigned() {
        let mut draining = node("a", 0, 0);
        draining.draining = true;
        let nodes = [draining, node("b", 0, 0).with_url(""), node("c", 0, 0).with_roles([API]), node("d", 9_999, 9_999)];
        for _ in 0..100 {
            assert_eq!(assign(&nodes).unwrap().node, "d");
        }
        assert_eq!(assign(&nodes[..3]), None);
        assert_eq!(assign(&[]), None);
    }

    #[test]
    fn fewer_connections_win_and_the_fullest_gets_nobody() {
        let nodes = [node("a", 500, 0), node("b", 100, 9_000), node("c", 300, 0)];
        let (mut b, mut c) = (0, 0);
        for _ in 0..1_000 {
            match &*assign(&nodes).unwrap().node {
                "b" => b += 1,
                "c" => c += 1,
                fullest => panic!("{fullest}"),
            }
        }
        assert!((560..=780).contains(&b) && c > 200, "{b} {c}: b is in two of three draws");
    }

    #[test]
    fn nodes_alike_are_told_by_their_rate_and_then_by_lot() {
        assert_eq!(assign(&[node("a", 3, 100), node("b", 10, 5)]).unwrap().node, "b");
        assert_eq!(assign(&[node("a", 1_000, 100), node("b", 1_050, 5)]).unwrap().node, "b");
        assert_eq!(assign(&[node("a", 1_000, 100), node("b", 1_200, 5)]).unwrap().node, "a");
        let nodes = [node("a", 7, 7), node("b", 7, 7), node("c", 7, 7)];
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..3_000 {
            *counts.entry(assign(&nodes).unwrap().node.clone()).or_insert(0) += 1;
        }
        assert!(counts.values().all(|count| (800..=1_200).contains(count)) && counts.len() == 3, "{counts:?}");
    }

    #[test]
    fn a_public_url_is_also_a_websockets() {
        let url = |url: &str| NodeInfo::new("a", 1).with_url(url).websocket_url();
        assert_eq!(url("https://chat.example/").as_deref(), Some("wss://chat.example"));
        assert_eq!(url("http://127.0.0.1:8080").as_deref(), Some("ws://127.0.0.1:8080"));
        assert_eq!(url(""), None);
    }
}
