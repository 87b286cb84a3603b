//! How many may come in: TCP connections, and those among them that speak WebSocket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::config::LimitsSection;

/// TCP connections beyond the limits that are still answered (with 503, or with `/health`) before they are dropped unheard.
const HEADROOM: usize = 1_024;
/// The same for one address.
const ADDRESS_HEADROOM: usize = 32;

/// Counts who is in. A limit of 0 is off.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: usize,
    per_address: usize,
    guests: AtomicUsize,
    seats: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

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
}

impl Admission {
    pub(crate) fn new(limits: &LimitsSection) -> Arc<Self> {
        Arc::new(Self {
            connections: limits.connections,
            per_address: limits.connections_per_address,
            guests: AtomicUsize::new(0),
            seats: AtomicUsize::new(0),
            addresses: Mutex::default(),
        })
    }

    /// Takes in a TCP connection from `address`; `None`: drop it, there are more than can be answered.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Guest> {
        let address = (self.per_address > 0).then(|| counted_as(address)).flatten();
        if !take(&self.guests, limit(self.connections, HEADROOM)) {
            return None;
        }
        if let Some(address) = address {
            let mut addresses = self.addresses.lock();
            let count = addresses.entry(address).or_default();
            if *count >= limit(self.per_address, ADDRESS_HEADROOM) {
                drop(addresses);
                self.guests.fetch_sub(1, Ordering::Relaxed);
                return None;
            }
            *count += 1;
        }
        Some(Guest { admission: self.clone(), address })
    }

    fn from(&self, address: IpAddr) -> usize {
        self.addresses.lock().get(&address).copied().unwrap_or_default()
    }
}

impl Guest {
    /// Gives the connection a seat as a WebSocket, which it is counted as until it is dropped.
    ///
    /// # Errors
    /// Why there is none, for a person.
    pub(crate) fn sit(self: &Arc<Self>) -> Result<Seat, &'static str> {
        let admission = &self.admission;
        if self.address.is_some_and(|address| admission.from(address) > admission.per_address) {
            return Err("too many connections from this address");
        }
        match take(&admission.seats, limit(admission.connections, 0)) {
            true => Ok(Seat { guest: self.clone() }),
            false => Err("this server has all the connections that it takes"),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.admission.guests.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut addresses = self.admission.addresses.lock();
            if let Some(count) = addresses.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    addresses.remove(&address);
                }
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.guest.admission.seats.fetch_sub(1, Ordering::Relaxed);
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
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(v6) => Some(IpAddr::V6(Ipv6Addr::from(u128::from(v6) & (!0 << 64)))),
        v4 => Some(v4),
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
        let seat = first.sit().unwrap();
        assert!(second.sit().is_err());
        drop(seat);
        assert!(second.sit().is_ok());
    }

    #[test]
    fn an_address_is_told_before_it_is_dropped_and_others_do_not_notice() {
        let admission = admission(0, 2);
        let guests: Vec<_> = (0..2 + ADDRESS_HEADROOM).filter_map(|n| guest(&admission, &format!("2001:db8::{n:x}"))).collect();
        assert!(guests[0].sit().is_err());
        assert!(guest(&admission, "2001:db8::ffff").is_none(), "the same /64");
        assert!(guest(&admission, "2001:db8:0:1::1").unwrap().sit().is_ok());
        drop(guests);
        assert!(guest(&admission, "2001:db8::1").unwrap().sit().is_ok());
        assert!(admission.addresses.lock().is_empty(), "nobody is remembered who is gone");
    }

    #[test]
    fn loopback_counts_for_the_node_only() {
        let admission = admission(2, 1);
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(guest(&admission, address).unwrap().sit().is_ok());
        }
        let guests: Vec<_> = (0..2 + HEADROOM).filter_map(|_| guest(&admission, "127.0.0.1")).collect();
        assert_eq!(guests.len(), 2 + HEADROOM);
        assert!(guest(&admission, "127.0.0.1").is_none());
    }
}
