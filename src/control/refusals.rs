//! Bounds how many clients with a wrong token wait for their answer, so that those who guess hold up nobody.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// A wrong token is answered after this time.
pub(super) const REFUSAL_DELAY: Duration = Duration::from_millis(500);
/// The requests of one address that wait so; further ones are answered at once.
const MAX_WAITING: usize = 4;
/// Those of all addresses.
const MAX_WAITING_OF_ALL: usize = 32;

/// The requests that wait, oldest first.
#[derive(Default)]
pub(super) struct Refusals {
    waiting: RefCell<VecDeque<(IpAddr, Instant)>>,
}

impl Refusals {
    /// True if a request with a wrong token can wait for its answer, which counts it.
    pub(super) fn can_wait(&self, client: IpAddr, now: Instant) -> bool {
        let client = network(client);
        let mut waiting = self.waiting.borrow_mut();
        while waiting.front().is_some_and(|(_, since)| now.saturating_duration_since(*since) >= REFUSAL_DELAY) {
            waiting.pop_front();
        }
        let has_room = waiting.len() < MAX_WAITING_OF_ALL
            && waiting.iter().filter(|(one, _)| *one == client).count() < MAX_WAITING;
        if has_room {
            waiting.push_back((client, now));
        }
        has_room
    }
}

/// The part of an address that a client cannot choose: of IPv6 the first 64 bits.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::now;

    #[test]
    fn a_few_requests_of_an_address_wait_at_once() {
        let (refusals, start) = (Refusals::default(), now());
        let guesser = |host: u16| IpAddr::from([0xfd00, 0, 0, 1, 0, 0, 0, host]);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|host| refusals.can_wait(guesser(host), start)),
            [true, true, true, true, false]
        );
        assert!(refusals.can_wait(IpAddr::from([10, 0, 0, 1]), start));
        assert!(refusals.can_wait(guesser(9), start + REFUSAL_DELAY));
    }

    #[test]
    fn the_requests_of_many_addresses_are_bounded() {
        let (refusals, start) = (Refusals::default(), now());
        let waiting = (0..2000u32).filter(|client| refusals.can_wait(IpAddr::from(client.to_be_bytes()), start));
        assert_eq!(waiting.count(), MAX_WAITING_OF_ALL);
    }
}
