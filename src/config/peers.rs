//! Peers that may read restricted pages: this machine, and a list of others. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A list of addresses and networks; loopback is always in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    networks: Vec<(IpAddr, u8)>,
}

impl Peers {
    /// Whether an address is in the list.
    pub fn contains(&self, address: IpAddr) -> bool {
        // An IPv6 socket sees an IPv4 peer as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        address.is_loopback()
            || self
                .networks
                .iter()
                .any(|(network, bits)| is_within(address, *network, *bits))
    }
}

/// A word that is neither an address nor a network.
#[derive(Debug, PartialEq, Eq)]
pub struct NoAddress(String);

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, which is no address", self.0)
    }
}

impl std::error::Error for NoAddress {}

impl FromStr for Peers {
    type Err = NoAddress;

    /// `loopback`, `any`, or addresses and networks such as `10.0.0.5, 2001:db8::/32`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut networks = Vec::new();
        for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
            match word {
                "loopback" => {}
                "any" => networks.extend([
                    (IpAddr::from([0, 0, 0, 0]), 0),
                    (IpAddr::from([0_u16; 8]), 0),
                ]),
                _ => networks.push(network(word).ok_or_else(|| NoAddress(word.to_owned()))?),
            }
        }
        Ok(Peers { networks })
    }
}

fn network(word: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match word.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (word, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, length) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    // A shift by the whole width of 128 bits would overflow.
    let rest = u32::from(length - bits);
    rest == 128 || (address ^ network) >> rest == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(list: &str, address: &str) -> bool {
        let peers: Peers = list.parse().expect(list);
        peers.contains(address.parse().expect(address))
    }

    #[test]
    fn this_machine_is_always_allowed_and_others_by_name() {
        for list in ["", "loopback", "10.0.0.5"] {
            for own in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
                assert!(allows(list, own), "{list} {own}");
            }
            assert!(!allows(list, "192.0.2.1"));
        }
        assert!(allows("10.0.0.5, 192.0.2.0/24", "192.0.2.255"));
        assert!(allows("192.0.2.0/24", "::ffff:192.0.2.9"));
        assert!(!allows("192.0.2.0/24", "192.0.3.1"));
        assert!(allows("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!allows("2001:db8::/32", "2001:db9::1"));
        assert!(!allows("0.0.0.0/0", "2001:db8::1"));
        for anybody in ["192.0.2.1", "2001:db8::1"] {
            assert!(allows("any", anybody), "{anybody}");
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        for bad in ["localhost", "10.0.0.0/33", "10.0.0", "::/129", "10.0.0.0/x"] {
            let list = format!("10.0.0.5,{bad}");
            assert_eq!(list.parse::<Peers>(), Err(NoAddress(bad.to_owned())));
        }
    }
}
