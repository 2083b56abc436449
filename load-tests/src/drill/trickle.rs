//! Connections that announce a body and send it a byte at a time, as a slow or a malicious client does.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use holdfast::backoff::pause;
use reqwest::Url;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// The time from one byte of a body to the next.
const DRIP: Duration = Duration::from_secs(1);
/// The announced length of a body, in bytes; at that pace it would take eight minutes.
const LENGTH: usize = 500;
/// The wait before a connection is replaced that ended without an answer.
const AFTER_NO_ANSWER: Duration = Duration::from_millis(100);

/// The address and path to which bodies are sent by `POST`, over plain HTTP.
#[derive(Clone, Debug)]
pub(super) struct Target {
    authority: String,
    path: String,
}

/// Connections that are opened anew whenever they end. Dropping this closes all of them.
pub(super) struct Trickle {
    counts: Arc<Mutex<Counts>>,
    /// One task for each connection.
    _connections: JoinSet<()>,
}

/// The counts of open and ended connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Connections whose head is sent, and that the server has not answered.
    open: usize,
    /// The fewest that were open at any moment since [`Trickle::watch`].
    pub(super) least: usize,
    /// The number of connections that ended since [`Trickle::watch`], by their end.
    pub(super) ended: BTreeMap<Ended, usize>,
}

/// The end of a slow body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ended {
    /// With a response of this status.
    Status(u16),
    /// Without a response.
    Unanswered,
}

/// A response that arrived before the body was whole.
struct EarlyResponse {
    status: u16,
    retry_after: Option<Duration>,
}

impl Target {
    /// Returns the target at `path` below a service's address, which must be plain HTTP.
    pub(super) fn new(service: &str, path: &str) -> anyhow::Result<Self> {
        let url: Url = service.parse().with_context(|| service.to_owned())?;
        anyhow::ensure!(
            url.scheme() == "http",
            "slow bodies are sent over plain HTTP, not to {url}"
        );
        let host = url.host_str().context("an address without a host")?;
        let port = url.port_or_known_default().unwrap_or(80);
        Ok(Self {
            authority: format!("{host}:{port}"),
            path: format!("{}{path}", url.path().trim_end_matches('/')),
        })
    }

    /// Returns the head of a request, and its body's first byte.
    fn head(&self, token: &str) -> String {
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: slow\r\n\
             Content-Type: application/json\r\nContent-Length: {LENGTH}\r\n\r\n{{",
            self.path, self.authority
        )
    }
}

impl Trickle {
    /// Opens a connection for each token, evenly spread over this time, so that they do not end all at once, either.
    pub(super) async fn open(target: &Target, tokens: &[String], over: Duration) -> Self {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let mut connections = JoinSet::new();
        let gap = over / u32::try_from(tokens.len().max(1)).unwrap_or(u32::MAX);
        let mut ticks = interval(gap.max(Duration::from_micros(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for token in tokens {
            ticks.tick().await;
            let (target, head) = (target.clone(), target.head(token));
            connections.spawn(keep_open(target, head, Arc::clone(&counts)));
        }
        Self {
            counts,
            _connections: connections,
        }
    }

    /// Starts counting anew.
    pub(super) fn watch(&self) {
        let mut counts = lock(&self.counts);
        counts.least = counts.open;
        counts.ended.clear();
    }

    /// Returns the counts since [`Self::watch`].
    pub(super) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens one connection after the other, each after the wait that the last response asked for.
async fn keep_open(target: Target, head: String, counts: Arc<Mutex<Counts>>) {
    loop {
        let answer = trickle(&target, &head, &counts).await;
        let (ended, wait) = match answer {
            Ok(Some(answer)) => (
                Ended::Status(answer.status),
                answer.retry_after.unwrap_or_default(),
            ),
            Ok(None) | Err(_) => (Ended::Unanswered, AFTER_NO_ANSWER),
        };
        *lock(&counts).ended.entry(ended).or_default() += 1;
        pause(wait).await;
    }
}

/// Sends a body slowly until there is a response. Returns `None` if the server closes the connection without one.
async fn trickle(
    target: &Target,
    head: &str,
    counts: &Mutex<Counts>,
) -> io::Result<Option<EarlyResponse>> {
    let mut stream = TcpStream::connect(&target.authority).await?;
    stream.write_all(head.as_bytes()).await?;
    let _open = Open::new(counts);
    let mut drips = interval(DRIP);
    drips.reset();
    let mut answer = Vec::new();
    loop {
        tokio::select! {
            read = stream.read_buf(&mut answer) => {
                let text = String::from_utf8_lossy(&answer);
                if read? == 0 || text.contains("\r\n\r\n") {
                    return Ok(EarlyResponse::read(&text));
                }
            }
            _ = drips.tick() => stream.write_all(b" ").await?,
        }
    }
}

impl EarlyResponse {
    /// Reads the head of a response; `None` if it is not HTTP/1.1.
    fn read(head: &str) -> Option<Self> {
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        let retry_after = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let seconds = name.eq_ignore_ascii_case("retry-after").then_some(value)?;
            seconds.trim().parse().ok().map(Duration::from_secs)
        });
        Some(Self {
            status,
            retry_after,
        })
    }
}

/// An open connection, counted until this is dropped.
struct Open<'a>(&'a Mutex<Counts>);

impl<'a> Open<'a> {
    fn new(counts: &'a Mutex<Counts>) -> Self {
        lock(counts).open += 1;
        Self(counts)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let mut counts = lock(self.0);
        counts.open -= 1;
        counts.least = counts.least.min(counts.open);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn target_is_a_path_below_the_services_address() {
        let target = Target::new("http://localhost:8080/api/order", "/orders").expect("valid");
        let head = target.head("t");
        assert!(
            head.starts_with("POST /api/order/orders HTTP/1.1\r\nHost: localhost:8080\r\n"),
            "{head}"
        );
        Target::new("https://localhost/api/order", "/orders").expect_err("not plain");
    }

    #[test]
    fn status_and_retry_after_are_read_from_a_response() {
        let head = "HTTP/1.1 408 Request Timeout\r\nRetry-After: 1\r\n\r\n";
        let answer = EarlyResponse::read(head).expect("an answer");
        assert_eq!(answer.status, 408);
        assert_eq!(answer.retry_after, Some(Duration::from_secs(1)));
        assert!(EarlyResponse::read("").is_none());
    }

    #[tokio::test]
    async fn connection_that_ends_is_counted_and_opened_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let target = Target::new(&format!("http://{address}"), "/orders").expect("valid");
        let tokens = ["a".to_owned(), "b".to_owned()];
        let trickle = Trickle::open(&target, &tokens, Duration::ZERO).await;
        let accept = async || {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            // The whole head is read: unread bytes would turn the end of the connection into an error.
            let mut sent = vec![0; target.head("a").len()];
            stream.read_exact(&mut sent).await.expect("a head");
            stream
        };
        let (mut first, second) = (accept().await, accept().await);
        assert_eq!(trickle.counts().open, 2);
        trickle.watch();
        let answer = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
        first.write_all(answer).await.expect("written");
        let third = accept().await;
        drop(second);
        let fourth = accept().await;
        let ended = BTreeMap::from([(Ended::Status(408), 1), (Ended::Unanswered, 1)]);
        let counts = trickle.counts();
        assert_eq!((counts.least, counts.ended), (1, ended));
        drop((third, fourth));
    }
}
