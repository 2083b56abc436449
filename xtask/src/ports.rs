//! Free ports on the loopback interface.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// A port that is free now.
pub fn free() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// This port if it is free, so that a person's bookmarks work, or any other.
pub fn prefer(port: u16) -> std::io::Result<u16> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(port),
        Err(_) => free(),
    }
}

/// Whether somebody listens on it.
pub fn answers(port: u16) -> bool {
    TcpStream::connect_timeout(
        &(Ipv4Addr::LOCALHOST, port).into(),
        Duration::from_millis(500),
    )
    .is_ok()
}
