//! Which server to try next.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::Endpoint;

/// The most alternates that are taken from a server's hint.
const MOST_ALTERNATES: usize = 16;

/// The servers that a client knows, in the order in which it tries them.
#[derive(Debug)]
pub(crate) struct Servers {
    known: Vec<Known>,
    next: usize,
    alternates: VecDeque<Endpoint>,
}

#[derive(Debug)]
struct Known {
    endpoint: Endpoint,
    /// Asked by `Retry-After` to be left alone until then.
    not_before: Option<Instant>,
}

impl Servers {
    /// `endpoints` is not empty.
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Self {
        let known = endpoints.into_iter().map(|endpoint| Known { endpoint, not_before: None }).collect();
        Self { known, next: 0, alternates: VecDeque::new() }
    }

    /// How many attempts make one round.
    pub(crate) fn round(&self) -> usize {
        self.known.len() + self.alternates.len()
    }

    /// Whether there is anywhere to go from `current`.
    pub(crate) fn elsewhere(&self, current: &Endpoint) -> bool {
        self.alternates.iter().chain(self.known.iter().map(|k| &k.endpoint)).any(|e| e != current)
    }

    /// The server to try, and since when it may be: first the alternates, then those known, in turn, those that
    /// asked for time last.
    pub(crate) fn pick(&mut self, now: Instant) -> (Endpoint, Instant) {
        if let Some(alternate) = self.alternates.pop_front() {
            return (alternate, now);
        }
        let count = self.known.len();
        let free = |index: &usize| self.known[*index].not_before.unwrap_or(now).max(now);
        let index = (0..count).map(|step| (self.next + step) % count).min_by_key(free).expect("at least one server is known");
        self.next = (index + 1) % count;
        (self.known[index].endpoint.clone(), free(&index))
    }

    /// `endpoint` is to be left alone for `delay`.
    pub(crate) fn hold(&mut self, endpoint: &Endpoint, delay: Duration) {
        for known in self.known.iter_mut().filter(|k| k.endpoint == *endpoint) {
            known.not_before = Some(Instant::now() + delay);
        }
    }

    /// The connection to `endpoint` stands: go there first when it is lost, for a restart is shorter than a move.
    pub(crate) fn reached(&mut self, endpoint: &Endpoint) {
        self.alternates.clear();
        if let Some(index) = self.known.iter().position(|k| k.endpoint == *endpoint) {
            self.next = index;
            self.known[index].not_before = None;
        }
    }

    /// Those to ask about the best one, in the order in which they would be tried: all but `failed`, if there are others.
    pub(crate) fn to_ask(&self, failed: Option<&Endpoint>) -> Vec<Endpoint> {
        let count = self.known.len();
        let all = (0..count).map(|step| &self.known[(self.next + step) % count].endpoint);
        all.filter(|endpoint| Some(*endpoint) != failed).cloned().collect()
    }

    /// Somebody known says that `best` is: it is tried first. One that would give up TLS is not taken.
    pub(crate) fn assigned(&mut self, best: Endpoint) {
        if best.is_secure() || self.known.iter().all(|known| !known.endpoint.is_secure()) {
            self.alternates.push_front(best);
        }
    }

    /// `current` names other servers. One that would give up TLS is not taken: it would get the token in the clear.
    pub(crate) fn suggest(&mut self, current: &Endpoint, alternates: &[String]) {
        let parsed = alternates.iter().filter_map(|url| url.parse().ok());
        let safe = parsed.filter(|e: &Endpoint| e.is_secure() || !current.is_secure());
        self.alternates = safe.filter(|e| e != current).take(MOST_ALTERNATES).collect();
        // Of those known, the one that goes away is the last to try.
        if let Some(index) = self.known.iter().position(|k| k.endpoint == *current) {
            self.next = (index + 1) % self.known.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(list: &str) -> Servers {
        Servers::new(Endpoint::parse_list(list).unwrap())
    }

    fn picks(servers: &mut Servers, count: usize) -> Vec<String> {
        (0..count).map(|_| servers.pick(Instant::now()).0.host().to_owned()).collect()
    }

    #[test]
    fn servers_are_tried_in_turn_and_the_last_good_one_first() {
        let mut servers = servers("ws://a,ws://b,ws://c");
        assert_eq!(picks(&mut servers, 4), ["a", "b", "c", "a"]);
        servers.reached(&"ws://c".parse().unwrap());
        assert_eq!(picks(&mut servers, 2), ["c", "a"]);
    }

    #[test]
    fn one_that_asked_for_time_comes_last() {
        let mut servers = servers("ws://a,ws://b");
        servers.hold(&"ws://a".parse().unwrap(), Duration::from_secs(60));
        assert_eq!(picks(&mut servers, 2), ["b", "b"]);
        servers.hold(&"ws://b".parse().unwrap(), Duration::from_secs(90));
        let (endpoint, at) = servers.pick(Instant::now());
        assert_eq!(endpoint.host(), "a");
        assert!(at > Instant::now() + Duration::from_secs(50));
    }

    #[test]
    fn an_assigned_server_comes_first_and_never_gives_up_tls() {
        let mut servers = servers("wss://a,wss://b,ws://c");
        servers.assigned("ws://spy".parse().unwrap());
        servers.assigned("wss://d".parse().unwrap());
        assert_eq!(picks(&mut servers, 3), ["d", "a", "b"]);
        let asked = |failed: &str| servers.to_ask(Some(&failed.parse().unwrap())).iter().map(|e| e.host().to_owned()).collect::<Vec<_>>();
        assert_eq!(asked("wss://b"), ["c", "a"]);
        assert_eq!(asked("wss://elsewhere"), ["c", "a", "b"]);
    }

    #[test]
    fn alternates_come_first_and_never_give_up_tls() {
        let current: Endpoint = "wss://a".parse().unwrap();
        let mut servers = servers("wss://a,wss://b");
        servers.suggest(&current, &["ws://spy".into(), "wss://c".into(), "nonsense://".into(), "wss://a".into()]);
        assert!(servers.elsewhere(&current));
        assert_eq!(picks(&mut servers, 3), ["c", "b", "a"]);
    }
}
