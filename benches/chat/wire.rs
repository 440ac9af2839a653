//! The client side of RFC 6455 with little overhead: frames are masked once and sent many times, and received frames are
//! parsed in place.

/// What is looked at of a server's frame.
pub struct Parsed<'a> {
    pub opcode: u8,
    pub payload: &'a [u8],
    /// Header and payload.
    pub length: usize,
}

pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// The frame at the start of `bytes`; `None` until it is complete.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<Parsed<'_>> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (start, length) = match second & 0x7F {
        126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
        length => (2, usize::from(length)),
    };
    Some(Parsed {
        opcode: first & 0x0F,
        payload: bytes.get(start..start + length)?,
        length: start + length,
    })
}

/// A frame as a client has to send it. The mask is a constant: it protects proxies, and there is none here.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(b, m)| b ^ m));
    frame
}

/// The first bytes of a connection.
pub fn request() -> Vec<u8> {
    b"GET /ws/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        .to_vec()
}

/// Reads the decimal number at the start of `bytes`.
#[inline]
pub fn digits(bytes: &[u8]) -> Option<u64> {
    let count = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    Some(
        bytes[..count]
            .iter()
            .fold(0, |sum, b| sum * 10 + u64::from(b - b'0')),
    )
}

/// What stands behind `label`.
#[inline]
pub fn after<'a>(bytes: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    let place = bytes.windows(label.len()).position(|part| part == label)?;
    Some(&bytes[place + label.len()..])
}
