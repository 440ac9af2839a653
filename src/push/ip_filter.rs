//! Tells public IP addresses from others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is one of the open internet: neither private, nor local, nor reserved (IANA's special-purpose
/// registries), nor one of these embedded in an IPv6 address.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)            // this network, private, loopback
            | (100, 64..=127, _)        // carriers' own
            | (169, 254, _)             // link-local, and clouds' metadata
            | (172, 16..=31, _)         // private
            | (192, 0, 0 | 2)           // protocols, documentation
            | (192, 88, 99)             // relays to IPv6
            | (192, 168, _)             // private
            | (198, 18..=19, _)         // benchmarks
            | (198, 51, 100)            // documentation
            | (203, 0, 113)             // documentation
            | (224..=255, _, _) // multicast, reserved, broadcast
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    match address.segments() {
        // The prefix of NAT64: the embedded IPv4 address decides.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        // Protocols and tunnels, documentation, tunnels that hold an IPv4 address, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => {
            false
        }
        // Global unicast.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: &str = "\
        0.0.0.0 10.0.0.1 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 169.254.169.254 \
        172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 \
        198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 240.0.0.1 255.255.255.255 :: ::1 \
        ::7f00:1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::a00:1 64:ff9b::7f00:1 \
        64:ff9b:1::808:808 100::1 2001::1 2001:db8::1 2002:7f00:1::1 3fff::1 5f00::1 fc00::1 \
        fd00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 4000::1";
    const PUBLIC: &str = "\
        1.1.1.1 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 \
        169.253.0.1 172.15.0.1 172.32.0.1 192.0.1.1 192.169.0.1 198.17.0.1 198.20.0.1 \
        223.255.255.255 ::ffff:1.1.1.1 64:ff9b::808:808 2001:200::1 2001:4860:4860::8888 2600::1 \
        2a00:1450::1 3ffe::1";

    #[test]
    fn only_addresses_of_the_open_internet_are_public() {
        for inside in INSIDE.split_whitespace() {
            let address: IpAddr = inside.parse().expect(inside);
            assert!(!is_public(address), "{inside}");
        }
        for public in PUBLIC.split_whitespace() {
            let address: IpAddr = public.parse().expect(public);
            assert!(is_public(address), "{public}");
        }
    }
}
