//! A TCP proxy that fails on demand.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{broadcast, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The proxy's treatment of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Passes them on, after this long.
    Open(Duration),
    /// Keeps them: neither side receives anything, and no connection is closed.
    Paused,
    /// Closes every connection, and each new one.
    Cut,
}

/// The connections that are closed when the server's next reply is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Nothing is to be lost.
    None,
    /// The connection of the reply is closed, and new ones are not.
    OneConnection,
    /// Every connection is closed, and each new one.
    Server,
}

/// A proxy between a service and a server. It ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    upstream: watch::Sender<SocketAddr>,
    said: broadcast::Sender<Vec<u8>>,
    loss: watch::Sender<Loss>,
    connections: Arc<AtomicUsize>,
    _running: DropGuard,
}

impl Proxy {
    /// Starts a proxy that passes everything on to `upstream`.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let (mode, watched) = watch::channel(Mode::Open(Duration::ZERO));
        let (upstream, leads_to) = watch::channel(upstream);
        let said = broadcast::Sender::new(16);
        let say = said.clone();
        let running = CancellationToken::new();
        let stop = running.clone();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        let loss = watch::Sender::new(Loss::None);
        let switch = mode.clone();
        let lost = loss.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((client, _)) = accepted else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                let (mode, mut leads_to) = (watched.clone(), leads_to.clone());
                let from_server = FromServer {
                    said: say.subscribe(),
                    loss: lost.clone(),
                    mode: switch.clone(),
                };
                let upstream = *leads_to.borrow_and_update();
                let stop = stop.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = leads_to.changed() => {}
                        () = connect(client, upstream, mode, from_server) => {}
                    }
                });
            }
        });
        Self {
            address,
            mode,
            upstream,
            said,
            loss,
            connections,
            _running: running.drop_guard(),
        }
    }

    /// Returns the address to which clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the number of connections that clients have made, including those that were closed at once.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Closes every connection, and each new one: the server is gone.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Closes every connection, and connects new ones to `upstream`: the address has a new owner.
    pub fn lead_to(&self, upstream: SocketAddr) {
        self.upstream.send_replace(upstream);
    }

    /// Passes nothing on any more, and closes no connection: the network is gone.
    pub fn pause(&self) {
        self.mode.send_replace(Mode::Paused);
    }

    /// Passes everything on, each piece after `latency`.
    pub fn slow(&self, latency: Duration) {
        self.mode.send_replace(Mode::Open(latency));
    }

    /// Sends these bytes to every client, as if they came from the server. Call it between two of the server's own
    /// messages, or they are garbled.
    pub fn say(&self, bytes: &[u8]) {
        self.said
            .send(bytes.to_vec())
            .expect("a client is connected");
    }

    /// Keeps the server's next reply to itself, and closes every connection then, and each new one, until
    /// [`Proxy::restore`]: the server has carried out a request, and no client gets its reply.
    pub fn lose_reply(&self) {
        self.loss.send_replace(Loss::Server);
    }

    /// Keeps the server's next reply to itself, and closes the connection that it was for: the client finds it broken
    /// when it next uses it. New connections are passed on.
    pub fn lose_connection(&self) {
        self.loss.send_replace(Loss::OneConnection);
    }

    /// Passes everything on again.
    pub fn restore(&self) {
        self.slow(Duration::ZERO);
    }
}

/// The faults of the direction from the server to the client.
struct FromServer {
    said: broadcast::Receiver<Vec<u8>>,
    /// Set until the server's next bytes have been lost.
    loss: watch::Sender<Loss>,
    mode: watch::Sender<Mode>,
}

async fn connect(
    client: TcpStream,
    upstream: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    replies: FromServer,
) {
    if *mode.borrow_and_update() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = mode.clone();
    tokio::select! {
        () = pump(from_client, to_server, mode.clone(), None) => {}
        () = pump(from_server, to_client, mode, Some(replies)) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    mut server: Option<FromServer>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            Some(bytes) = next(&mut server) => {
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let Ok(read @ 1..) = read else {
            return;
        };
        if let Some(server) = &server {
            match server.loss.send_replace(Loss::None) {
                Loss::None => {}
                Loss::OneConnection => return,
                Loss::Server => {
                    server.mode.send_replace(Mode::Cut);
                    return;
                }
            }
        }
        let open = mode
            .wait_for(|mode| matches!(mode, Mode::Open(_)))
            .await
            .map(|mode| *mode);
        let Ok(Mode::Open(latency)) = open else {
            return;
        };
        if !latency.is_zero() {
            holdfast::backoff::pause(latency).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// Waits for the next bytes that [`Proxy::say`] sends; `None` in the direction that has none.
async fn next(server: &mut Option<FromServer>) -> Option<Vec<u8>> {
    server.as_mut()?.said.recv().await.ok()
}
