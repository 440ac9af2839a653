//! Peers that may read restricted pages: this machine, and a list of others. Pure.

use std::net::IpAddr;

/// A list of addresses and networks; loopback is always in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    networks: Vec<(IpAddr, u8)>,
}

impl Peers {
    /// The same list with `loopback`, `any`, an address, or a network such as `2001:db8::/32`; `None` for any other word.
    pub fn with(mut self, word: &str) -> Option<Self> {
        match word {
            "loopback" => {}
            "any" => self.networks.extend([
                (IpAddr::from([0, 0, 0, 0]), 0),
                (IpAddr::from([0_u16; 8]), 0),
            ]),
            _ => self.networks.push(network(word)?),
        }
        Some(self)
    }

    /// Whether an address is in the list.
    pub fn contains(&self, address: IpAddr) -> bool {
        // An IPv6 socket sees an IPv4 peer as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        let mut networks = self.networks.iter();
        address.is_loopback() || networks.any(|(network, bits)| is_within(address, *network, *bits))
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
        let words = list.split([',', ' ']).filter(|word| !word.is_empty());
        let peers = words.fold(Peers::default(), |peers, word| {
            peers.with(word).expect(word)
        });
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
    fn what_is_no_address_is_refused() {
        for bad in ["localhost", "10.0.0.0/33", "10.0.0", "::/129", "10.0.0.0/x"] {
            assert_eq!(Peers::default().with(bad), None, "{bad}");
        }
    }
}
