#!/usr/bin/env bash
# lettre 0.11.23 (crates.io), its asynchronous SMTP transport with the default pool.
#
# Expected: a send that is dropped while it waits for a reply (a timeout around it, a `select!`, a client that hangs up)
# leaves nothing behind: its connection is in the middle of a dialogue, so it is closed, or its reply is read first.
# Observed: the connection goes back to the pool as it is. The next send reads the replies of the one before, each command
# one reply late, and ends with the server's 354 ("go on") in place of its verdict on the mail. The server refuses the
# second mail with 554, and `send` returns Ok with code 354.
#
# Remedy: run the send in a task of its own and wait for the task, so that dropping the wait does not drop the send.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "dropped-send"
version = "0.0.0"
edition = "2024"

[dependencies]
lettre = { version = "=0.11.23", default-features = false, features = ["builder", "pool", "smtp-transport", "tokio1"] }
tokio = { version = "1", features = ["io-util", "macros", "net", "rt", "sync", "time"] }
TOML
cat >src/main.rs <<'RUST'
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};

/// Serves one connection: accepts the first mail after `go_on`, and refuses the second.
async fn serve(listener: TcpListener, data_seen: mpsc::Sender<()>, mut go_on: mpsc::Receiver<()>) {
    let (stream, _) = listener.accept().await.unwrap();
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from).lines();
    to.write_all(b"220 server\r\n").await.unwrap();
    let mut mails = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        let reply = match line.split([' ', ':']).next().unwrap() {
            "DATA" => {
                to.write_all(b"354 go on\r\n").await.unwrap();
                while lines.next_line().await.unwrap().unwrap() != "." {}
                mails += 1;
                if mails == 1 {
                    data_seen.send(()).await.unwrap();
                    go_on.recv().await;
                    "250 the first mail is taken"
                } else {
                    "554 the second mail is refused"
                }
            }
            _ => "250 ok",
        };
        println!("  server: {line:<42} -> {reply}");
        if to.write_all(format!("{reply}\r\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (data_seen, mut seen) = mpsc::channel(1);
    let (tell, go_on) = mpsc::channel(1);
    tokio::spawn(serve(listener, data_seen, go_on));

    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(port)
        .build();
    let mail = |subject: &str| {
        Message::builder()
            .from("shop@example.test".parse().unwrap())
            .to("alice@example.test".parse().unwrap())
            .subject(subject)
            .body(String::from("hello"))
            .unwrap()
    };
    tokio::select! {
        _ = transport.send(mail("first")) => unreachable!("the server has not replied"),
        _ = seen.recv() => println!("  client: gives up waiting for the verdict on the first mail"),
    }
    // The dropped send puts its connection back in a task of its own.
    tokio::task::yield_now().await;
    tell.send(()).await.unwrap();
    match transport.send(mail("second")).await {
        Ok(reply) => println!("result: Ok, code {}", reply.code()),
        Err(error) => println!("result: Err, {error}"),
    }
}
RUST
cargo build --quiet
saw=$(target/debug/dropped-send)
echo "$saw"
if ! grep --quiet '^result: Ok, code 354$' <<<"$saw"; then
    echo "the observed behaviour has changed" >&2
    exit 1
fi
