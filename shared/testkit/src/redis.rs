//! Redis: names of its own for each test on the shared server, or a whole server that may be killed, paused and
//! emptied.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

use crate::{eventually, setting};

/// The server that all tests share, and a prefix for the names of one test.
#[derive(Clone, Debug)]
pub struct Redis {
    url: String,
    prefix: String,
}

impl Redis {
    /// Returns a prefix of its own on the server that `cargo xtask test` started.
    ///
    /// # Panics
    ///
    /// When the tests were not started by `cargo xtask test`.
    pub fn shared() -> Self {
        Self {
            url: setting("HOLDFAST_TEST_REDIS"),
            prefix: format!("test-{}", Uuid::now_v7().simple()),
        }
    }

    /// Returns the URL of the server: redis://USER:PASSWORD@HOST:PORT.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns a name that no other test uses.
    pub fn name(&self, label: &str) -> String {
        format!("{}-{label}", self.prefix)
    }

    /// Returns the server's address.
    pub fn address(&self) -> SocketAddr {
        address(&self.url)
    }

    /// Returns the URL of the server through a proxy at `address`.
    pub fn url_via(&self, address: SocketAddr) -> String {
        let (credentials, _) = self.url.split_once('@').expect("the URL has credentials");
        format!("{credentials}@{address}")
    }
}

fn address(url: &str) -> SocketAddr {
    let (_, place) = url
        .rsplit_once(['@', '/'])
        .expect("the URL has an address at its end");
    place.parse().expect("the URL has an address")
}

/// A Redis of a test's own, without persistence: a server that was killed comes back empty. It is killed when this is
/// dropped.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    folder: PathBuf,
    child: Option<Child>,
    /// The port of its primary, even after a restart; `None` if it is no replica.
    primary: Option<u16>,
}

/// The ports to try: neither those that `cargo xtask` gives away, nor those of outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..19_999;

static PORTS_LOOKED_AT: AtomicU16 = AtomicU16::new(0);

/// Returns a port that is free now, and that no other server of this process gets, so that a restart can use it.
fn free_port() -> u16 {
    let count = PORTS.end - PORTS.start;
    let first = u16::try_from(std::process::id() * 37 % u32::from(count)).expect("below count");
    for _ in 0..count {
        let place = (first + PORTS_LOOKED_AT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + place;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

impl RedisServer {
    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When the tests were not started by `cargo xtask test`, or the server does not start.
    pub async fn start() -> Self {
        Self::start_as(None).await
    }

    /// Starts a replica of `primary`, and waits until it has caught up with that.
    ///
    /// # Panics
    ///
    /// As [`RedisServer::start`].
    pub async fn start_replica_of(primary: &Self) -> Self {
        let replica = Self::start_as(Some(primary.port)).await;
        eventually("the replica follows", || async {
            let info = replica.ask("INFO replication").await;
            match info {
                Ok(info) if info.contains("master_link_status:up") => Ok(()),
                Ok(info) => Err(info),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
        replica
    }

    async fn start_as(primary: Option<u16>) -> Self {
        let folder = std::env::temp_dir().join(format!("redis-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).expect("a folder for its files");
        let mut server = Self {
            port: free_port(),
            folder,
            child: None,
            primary,
        };
        server.revive().await;
        server
    }

    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the server's address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Kills the server, as `kill -9` does. Its data are lost.
    ///
    /// # Panics
    ///
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
        }
    }

    /// Starts the server again, empty, on the same port, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn revive(&mut self) {
        self.kill();
        let program = setting("HOLDFAST_TEST_REDIS_SERVER");
        let mut command = Command::new(program);
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no"])
            // A replica is synchronised at once: a primary would otherwise wait for more replicas to serve with one
            // copy.
            .args(["--repl-diskless-sync-delay", "0", "--logfile", "redis.log"])
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(primary) = self.primary {
            command.args(["--replicaof", "127.0.0.1", &primary.to_string()]);
        }
        match std::env::var("HOLDFAST_TEST_REDIS_LIBRARIES") {
            Ok(libraries) if !libraries.is_empty() => {
                command.env("LD_LIBRARY_PATH", libraries);
            }
            _ => {}
        }
        self.child = Some(command.spawn().expect("redis-server starts"));
        eventually("a Redis of the test's own answers", || async {
            match self.ask("PING").await {
                Ok(answer) if answer.starts_with("+PONG") => Ok(()),
                Ok(answer) => Err(answer),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Deletes everything that the server holds.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn flush(&self) {
        let answer = self.ask("FLUSHALL").await.expect("Redis answers");
        assert!(answer.starts_with("+OK"), "{answer}");
    }

    /// Makes a replica a primary: the failover that Sentinel, or a person, does.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn promote(&mut self) {
        self.primary = None;
        let answer = self.ask("REPLICAOF NO ONE").await.expect("Redis answers");
        assert!(answer.starts_with("+OK"), "{answer}");
    }

    /// Returns how often a command was called, by clients and by scripts: `get`, `evalsha`.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    pub async fn calls(&self, command: &str) -> u64 {
        let statistics = self.ask("INFO commandstats").await.expect("Redis answers");
        let line = statistics
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse().ok())
            .unwrap_or(0)
    }

    /// Sends one command as words, and returns the reply as it is on the wire.
    pub async fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(self.address()).await?;
        stream
            .write_all(format!("{command}\r\nQUIT\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        // If this fails, the folder is removed with the other temporary files.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
