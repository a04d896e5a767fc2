//! Represents an internet address in the kernel's form, as an app gave it to `bind(2)`.

use nix::libc::{AF_INET, AF_INET6};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An internet address and port, and whether IPv6 excludes IPv4.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// `sockaddr_in` (16 bytes) or `sockaddr_in6` (28 bytes).
    bytes: Vec<u8>,
    /// `IPV6_V6ONLY` (ipv6(7)).
    pub v6_only: bool,
}

impl Address {
    /// Reads the address in these bytes; `None` if it is no internet address, or has no port. What `bind` ignores counts as
    /// zero, for programs that leave it as it was in memory: `sin_zero`, `sin6_flowinfo`, and the scope of an address that has
    /// none.
    pub fn read(bytes: &[u8], v6_only: bool) -> Option<Address> {
        let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let fits = matches!((family, bytes.len()), (AF_INET, 16) | (AF_INET6, 28));
        let mut address = Address { bytes: bytes.to_vec(), v6_only };
        let is_scoped = matches!(address.ip(), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() || ip.is_multicast());
        let ignored = match bytes.len() {
            16 => [8..16, 16..16],
            _ => [4..8, if is_scoped { 28..28 } else { 24..28 }],
        };
        for range in ignored {
            address.bytes.get_mut(range).unwrap_or_default().fill(0);
        }
        (fits && address.port() != 0).then_some(address)
    }

    /// The bytes for `bind(2)`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        match self.bytes.get(2..4) {
            Some([high, low]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        }
    }

    /// Returns true if a socket at one of the two is in the way of one at the other.
    pub fn overlaps(&self, other: &Address) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Returns true if a socket there gets every connection to the other one.
    pub fn covers(&self, other: &Address) -> bool {
        if self.port() != other.port() {
            return false;
        }
        let canonical = |address: &Address| address.ip().map(|ip| ip.to_canonical());
        match (self.ip(), other.ip()) {
            _ if canonical(self) == canonical(other) => true,
            (Some(IpAddr::V4(ip)), Some(IpAddr::V4(_))) => ip.is_unspecified(),
            (Some(IpAddr::V6(ip)), Some(IpAddr::V6(_))) => ip.is_unspecified(),
            (Some(IpAddr::V6(ip)), Some(IpAddr::V4(_))) => ip.is_unspecified() && !self.v6_only,
            (Some(IpAddr::V4(_)), Some(IpAddr::V6(_))) | (None, _) | (_, None) => false,
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        if self.bytes.len() == 16 {
            let ip: [u8; 4] = self.bytes.get(4..8)?.try_into().ok()?;
            return Some(Ipv4Addr::from(ip).into());
        }
        let ip: [u8; 16] = self.bytes.get(8..24)?.try_into().ok()?;
        Some(Ipv6Addr::from(ip).into())
    }
}

impl From<SocketAddr> for Address {
    /// IPv6 does not exclude IPv4.
    fn from(address: SocketAddr) -> Address {
        let family = |family: i32| (family as u16).to_ne_bytes();
        let port = address.port().to_be_bytes();
        let bytes = match address {
            SocketAddr::V4(v4) => [&family(AF_INET)[..], &port, &v4.ip().octets(), &[0; 8]].concat(),
            SocketAddr::V6(v6) => {
                let (flow, scope) = (v6.flowinfo().to_ne_bytes(), v6.scope_id().to_ne_bytes());
                [&family(AF_INET6)[..], &port, &flow, &v6.ip().octets(), &scope].concat()
            }
        };
        Address { bytes, v6_only: false }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip() {
            Some(ip) if ip.is_unspecified() => write!(f, "port {}", self.port()),
            Some(ip) => write!(f, "{}", SocketAddr::new(ip, self.port())),
            None => f.write_str("an address"),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["127.0.0.1:80", "[::1]:8080", "10.1.2.3:65535"] {
            let address = Address::from(text.parse::<SocketAddr>().unwrap());
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::read(address.bytes(), false), Some(address));
        }
        assert_eq!(Address::from(SocketAddr::from(([0, 0, 0, 0], 80))).to_string(), "port 80");
    }

    #[test]
    fn what_bind_ignores_makes_no_other_address() {
        for (text, ignored) in [("127.0.0.1:80", 8..16), ("[::1]:80", 4..8), ("[::1]:80", 24..28)] {
            let address = Address::from(text.parse::<SocketAddr>().unwrap());
            let mut bytes = address.bytes().to_vec();
            bytes[ignored].fill(7);
            assert_eq!(Address::read(&bytes, false), Some(address));
        }
        let local = Address::from(SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, 1], 80)));
        let mut bytes = local.bytes().to_vec();
        bytes[24..28].fill(7);
        assert_ne!(Address::read(&bytes, false), Some(local), "on another interface");
    }

    #[test]
    fn addresses_overlap_as_the_kernel_sees_it() {
        let address = |text: &str| Address::from(text.parse::<SocketAddr>().unwrap());
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "10.0.0.1:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
        ] {
            assert_eq!(address(one).overlaps(&address(other)), expected, "{one} {other}");
            assert_eq!(address(other).overlaps(&address(one)), expected, "{other} {one}");
        }
        let v6_only = Address { v6_only: true, ..address("[::]:80") };
        assert!(!v6_only.overlaps(&address("0.0.0.0:80")) && v6_only.overlaps(&address("[::1]:80")));
    }

    #[test]
    fn what_is_no_internet_address_is_none() {
        let any_port = Address::from(SocketAddr::from(([127, 0, 0, 1], 0)));
        assert_eq!(Address::read(any_port.bytes(), false), None);
        for bytes in [&[][..], &[2], &[2, 0, 0, 80], &[1; 110]] {
            assert_eq!(Address::read(bytes, false), None);
        }
    }
}
