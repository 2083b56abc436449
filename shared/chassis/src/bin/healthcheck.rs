//! Requests the readiness of the service in this container: for images that have no shell and no curl.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

/// Exits 0 if the service that listens on HTTP_LISTEN's port of this machine is ready, 1 if it is not
#[derive(Parser)]
#[command(name = "healthcheck")]
struct Arguments {
    /// The address that the service listens on
    #[arg(long, env = "HTTP_LISTEN", default_value = "127.0.0.1:8080")]
    http_listen: SocketAddr,

    /// The path to request
    #[arg(long, default_value = "/health/ready")]
    path: String,

    /// Longest to wait for each step, in milliseconds
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout_ms: u64,
}

#[expect(clippy::print_stdout, reason = "Docker keeps it as the check's output")]
fn main() -> ExitCode {
    match ask(&Arguments::parse()) {
        Ok(answer) => {
            println!("{answer}");
            if answer.starts_with("HTTP/1.1 200") {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(arguments: &Arguments) -> std::io::Result<String> {
    let timeout = Duration::from_millis(arguments.timeout_ms);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.http_listen.port()));
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    write!(
        stream,
        "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        arguments.path
    )?;
    let mut answer = Vec::new();
    // A server that sends more is not one of ours.
    stream.take(4 * 1024 * 1024).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
