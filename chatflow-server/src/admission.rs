//! How many may come in: TCP connections, and those among them that speak WebSocket.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chatflow_core::UserId;
use parking_lot::Mutex;

use crate::config::{LimitsSection, Proxies};

/// TCP connections beyond the limits that are still answered (with 503, or with `/health`) before they are dropped unheard.
const HEADROOM: usize = 1_024;
/// The same for one address.
const ADDRESS_HEADROOM: usize = 32;

/// Counts who is in. A limit of 0 is off.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: usize,
    per_address: usize,
    per_user: usize,
    proxies: Proxies,
    guests: AtomicUsize,
    seats: AtomicUsize,
    addresses: Counts<IpAddr>,
    users: Counts<UserId>,
}

/// How many each has. Nobody is remembered who has none.
#[derive(Debug)]
struct Counts<K>(Mutex<HashMap<K, usize>>);

/// One TCP connection. Leaves when dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    admission: Arc<Admission>,
    /// What the connection counts under; `None` when it is exempt.
    address: Option<IpAddr>,
}

/// One WebSocket connection. Leaves when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    guest: Arc<Guest>,
    /// What it counts under when a proxy brought it.
    address: Option<IpAddr>,
    /// Whose it is, if that is counted.
    user: Option<UserId>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone> Counts<K> {
    fn of(&self, key: &K) -> usize {
        self.0.lock().get(key).copied().unwrap_or_default()
    }

    /// One more, unless there are `most`.
    fn add(&self, key: &K, most: usize) -> bool {
        let mut counts = self.0.lock();
        let count = counts.get(key).copied().unwrap_or_default();
        let free = count < most;
        if free {
            counts.insert(key.clone(), count + 1);
        }
        free
    }

    /// One less.
    fn remove(&self, key: &K) {
        let mut counts = self.0.lock();
        if let Some(count) = counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
            }
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: &LimitsSection) -> Arc<Self> {
        Arc::new(Self {
            connections: limits.connections,
            per_address: limits.connections_per_address,
            per_user: limits.connections_per_user,
            proxies: limits.trusted_proxies.clone(),
            guests: AtomicUsize::new(0),
            seats: AtomicUsize::new(0),
            addresses: Counts::default(),
            users: Counts::default(),
        })
    }

    /// Takes in a TCP connection from `address`; `None`: drop it, there are more than can be answered. A trusted proxy's are not
    /// counted by address: whom they are from is known with the request.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let address = if self.proxies.trust(address) { None } else { self.counted_as(address) };
        if !take(&self.guests, limit(self.connections, HEADROOM)) {
            return None;
        }
        if address.is_some_and(|address| !self.addresses.add(&address, limit(self.per_address, ADDRESS_HEADROOM))) {
            self.guests.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Guest { admission: self.clone(), address })
    }

    fn counted_as(&self, address: IpAddr) -> Option<IpAddr> {
        (self.per_address > 0).then(|| counted_as(address)).flatten()
    }
}

impl Guest {
    /// Gives the connection a seat as a WebSocket, which it is counted as until it is dropped. `forwarded`: the client for whom a
    /// trusted proxy made the connection.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub(crate) fn sit(self: &Arc<Self>, forwarded: Option<IpAddr>) -> Result<Seat, &'static str> {
        const TOO_MANY: &str = "too many connections from this address";
        let admission = &self.admission;
        if self.address.is_some_and(|address| admission.addresses.of(&address) > admission.per_address) {
            return Err(TOO_MANY);
        }
        if !take(&admission.seats, limit(admission.connections, 0)) {
            return Err("this server has all the connections that it takes");
        }
        let mut seat = Seat { guest: self.clone(), address: None, user: None };
        if let Some(address) = forwarded.and_then(|address| admission.counted_as(address)) {
            if !admission.addresses.add(&address, limit(admission.per_address, 0)) {
                return Err(TOO_MANY);
            }
            seat.address = Some(address);
        }
        Ok(seat)
    }
}

impl Seat {
    /// Counts the connection as `user`'s, until it is dropped.
    ///
    /// # Errors
    /// Why it may not be, for a person.
    pub(crate) fn count_for(&mut self, user: &UserId) -> Result<(), &'static str> {
        let admission = &self.guest.admission;
        if !admission.users.add(user, limit(admission.per_user, 0)) {
            return Err("too many connections of this user");
        }
        self.user = Some(user.clone());
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.admission.guests.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = &self.address {
            self.admission.addresses.remove(address);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let admission = &self.guest.admission;
        admission.seats.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = &self.address {
            admission.addresses.remove(address);
        }
        if let Some(user) = &self.user {
            admission.users.remove(user);
        }
    }
}

fn limit(setting: usize, headroom: usize) -> usize {
    if setting == 0 { usize::MAX } else { setting.saturating_add(headroom) }
}

fn take(counter: &AtomicUsize, most: usize) -> bool {
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < most).then_some(count + 1)).is_ok()
}

/// What an address counts under: one host has a whole /64 of IPv6. Loopback is exempt.
fn counted_as(address: IpAddr) -> Option<IpAddr> {
    Some(network(address)).filter(|address| !address.is_loopback())
}

/// What one host has of addresses: loopback and IPv4 addresses are themselves, of IPv6 it is a /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & (!0 << 64))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, per_address: usize) -> Arc<Admission> {
        Admission::new(&LimitsSection { connections, connections_per_address: per_address, ..LimitsSection::default() })
    }

    fn guest(admission: &Arc<Admission>, address: &str) -> Option<Arc<Guest>> {
        admission.enter(address.parse().unwrap()).map(Arc::new)
    }

    #[test]
    fn seats_are_given_up_to_the_limit_and_given_back() {
        let admission = admission(1, 0);
        let (first, second) = (guest(&admission, "10.0.0.1").unwrap(), guest(&admission, "10.0.0.1").unwrap());
        let seat = first.sit(None).unwrap();
        assert!(second.sit(None).is_err());
        drop(seat);
        assert!(second.sit(None).is_ok());
    }

    #[test]
    fn an_address_is_told_before_it_is_dropped_and_others_do_not_notice() {
        let admission = admission(0, 2);
        let guests: Vec<_> = (0..2 + ADDRESS_HEADROOM).filter_map(|n| guest(&admission, &format!("2001:db8::{n:x}"))).collect();
        assert!(guests[0].sit(None).is_err());
        assert!(guest(&admission, "2001:db8::ffff").is_none(), "the same /64");
        assert!(guest(&admission, "2001:db8:0:1::1").unwrap().sit(None).is_ok());
        drop(guests);
        assert!(guest(&admission, "2001:db8::1").unwrap().sit(None).is_ok());
        assert!(admission.addresses.0.lock().is_empty(), "nobody is remembered who is gone");
    }

    #[test]
    fn behind_a_trusted_proxy_the_client_counts() {
        let trusted_proxies = serde_json::from_str(r#"["10.0.0.0/8"]"#).unwrap();
        let limits = LimitsSection { connections: 0, connections_per_address: 2, trusted_proxies, ..LimitsSection::default() };
        let admission = Admission::new(&limits);
        let client = |n: u8| Some(IpAddr::from([192, 0, 2, n]));
        let guests: Vec<_> = (0..100).map(|_| guest(&admission, "10.0.0.1").unwrap()).collect();
        let seats: Vec<_> = guests[..2].iter().map(|guest| guest.sit(client(1)).unwrap()).collect();
        assert!(guests[2].sit(client(1)).is_err());
        assert!(guests[3].sit(client(2)).is_ok());
        assert!(guests[4].sit(Some(IpAddr::from([127, 0, 0, 1]))).is_ok());
        drop(seats);
        assert!(guests[5].sit(client(1)).is_ok());
        assert!(admission.addresses.0.lock().is_empty());
        assert_eq!(admission.seats.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn loopback_counts_for_the_node_only() {
        let admission = admission(2, 1);
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(guest(&admission, address).unwrap().sit(None).is_ok());
        }
        let guests: Vec<_> = (0..2 + HEADROOM).filter_map(|_| guest(&admission, "127.0.0.1")).collect();
        assert_eq!(guests.len(), 2 + HEADROOM);
        assert!(guest(&admission, "127.0.0.1").is_none());
    }

    #[test]
    fn a_user_has_so_many_seats_whoever_else_has_how_many() {
        let admission = Admission::new(&LimitsSection { connections_per_user: 2, ..LimitsSection::default() });
        let guest = guest(&admission, "10.0.0.1").unwrap();
        let seat = |user: &'static str| {
            let mut seat = guest.sit(None).unwrap();
            seat.count_for(&user.into()).map(|()| seat)
        };
        let seats = [seat("ada").unwrap(), seat("ada").unwrap()];
        assert!(seat("ada").is_err());
        assert!(seat("eve").is_ok());
        drop(seats);
        assert_eq!(admission.seats.load(Ordering::Relaxed), 0, "a seat that was refused is free as well");
        assert!(seat("ada").is_ok());
        assert!(admission.users.0.lock().is_empty(), "nobody is remembered who is gone");
    }
}
