//! Free ports on the loopback interface.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Below the range of ephemeral ports on every system: the system could give one of those to an outgoing connection
/// while the server that listens on it is restarted.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// The number of ports that were tried. Two callers in this process never get the same port before they listen on it.
static LOOKED_AT: AtomicU16 = AtomicU16::new(0);

/// Returns a port that is free now.
pub fn free() -> std::io::Result<u16> {
    // Processes begin at different places.
    let (first, count) = (std::process::id() % 1000 * 12, RANGE.end - RANGE.start);
    let mut refused = None;
    for _ in 0..count {
        let place = first + u32::from(LOOKED_AT.fetch_add(1, Ordering::Relaxed));
        let port = RANGE.start + u16::try_from(place % u32::from(count)).unwrap_or_default();
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()))
}

/// Returns this port if it is free, so that a person's bookmarks work, or else any free one.
pub fn prefer(port: u16) -> std::io::Result<u16> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(port),
        Err(_) => free(),
    }
}

/// Returns true if a connection to the port is accepted.
pub fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(
        &(Ipv4Addr::LOCALHOST, port).into(),
        Duration::from_millis(500),
    )
    .is_ok()
}
