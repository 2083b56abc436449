//! A collector of traces that accepts all spans and keeps none.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::{Context, Result, commands::verify::Trial, error};

/// The setting with its address.
pub(super) const ADDRESS: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Starts the collector at the address that the services were given, once.
pub(super) fn start(trial: &mut Trial) -> Result {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let port = trial
        .stack
        .wiring
        .extra
        .iter()
        .find(|(name, _)| name == ADDRESS)
        .and_then(|(_, url)| url.rsplit(':').next()?.parse().ok());
    let port: u16 = port.ok_or_else(|| error("no collector was announced"))?;
    if STARTED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("the collector")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Each connection carries one request after the other, until its service ends.
            thread::spawn(move || take_spans(stream));
        }
    });
    Ok(())
}

/// Answers each request of a connection with 200 and an empty message.
fn take_spans(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let end = head + 4 + length.unwrap_or(0);
            if bytes.len() >= end {
                bytes.drain(..end);
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
                )?;
                continue;
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
