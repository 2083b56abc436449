//! A receiver of webhooks. It checks signatures as `docs/webhooks.md` says, without the service's own code.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::Value;
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The receiver's answer to every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// This status, with these header lines.
    Answer(u16, String),
    /// No answer until the mode changes; then it hangs up.
    Hang,
    /// 200, with a body without an end.
    Endless,
}

impl Mode {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, String::new())
    }

    pub(crate) fn with(status: u16, header: &str, value: impl ToString) -> Self {
        Self::Answer(status, format!("{header}: {}\r\n", value.to_string()))
    }
}

/// A webhook that was received.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) at: Instant,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Hook {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map_or_else(
            || panic!("no header {name}: {self:?}"),
            |(_, value)| value.as_str(),
        )
    }

    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(crate) fn signatures(&self) -> usize {
        self.header("webhook-signature").split(' ').count()
    }

    /// Returns true if one of its signatures is by this secret.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let encoded = secret.strip_prefix("whsec_").expect("a secret's prefix");
        let bytes = STANDARD.decode(encoded).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let timestamp = self.header("webhook-timestamp");
        let mut signed = Vec::new();
        for part in [self.id(), ".", timestamp, ".", &self.body] {
            signed.extend_from_slice(part.as_bytes());
        }
        self.header("webhook-signature").split(' ').any(|one| {
            let Some(("v1", signature)) = one.split_once(',') else {
                return false;
            };
            let signature = STANDARD.decode(signature).expect("base64");
            hmac::verify(&key, &signed, &signature).is_ok()
        })
    }
}

/// A receiver, which listens until it is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    seen: Arc<Mutex<Vec<Hook>>>,
    _running: DropGuard,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        let (mode, watched) = watch::channel(Mode::status(204));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let running = CancellationToken::new();
        let (stop, kept) = (running.clone(), Arc::clone(&seen));
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, watched.clone(), Arc::clone(&kept)));
            }
        }));
        Self {
            address,
            mode,
            seen,
            _running: running.drop_guard(),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Returns the webhooks that were received at a path.
    pub(crate) fn seen(&self, path: &str) -> Vec<Hook> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|hook| hook.path == path)
            .cloned()
            .collect()
    }

    /// Waits until at least `n` webhooks were received at a path, and returns them.
    pub(crate) async fn wait_for(&self, path: &str, n: usize) -> Vec<Hook> {
        eventually(&format!("{n} webhooks to {path}"), || async {
            let seen = self.seen(path);
            if seen.len() >= n {
                Ok(seen)
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await
    }
}

async fn serve(
    mut stream: TcpStream,
    mut mode: watch::Receiver<Mode>,
    seen: Arc<Mutex<Vec<Hook>>>,
) {
    let Some(hook) = read(&mut stream).await else {
        return;
    };
    seen.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(hook);
    let now = mode.borrow_and_update().clone();
    match now {
        Mode::Answer(status, headers) => {
            let answer = format!("HTTP/1.1 {status} So\r\n{headers}content-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        Mode::Hang => {
            let _ = mode.changed().await;
        }
        Mode::Endless => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = format!("400\r\n{}\r\n", "a".repeat(0x400));
            let mut written = stream.write_all(head.as_bytes()).await;
            while written.is_ok() {
                written = stream.write_all(chunk.as_bytes()).await;
            }
        }
    }
}

/// Reads one request.
async fn read(stream: &mut TcpStream) -> Option<Hook> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length?.1.parse().ok()?;
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Hook {
        at: Instant::now(),
        path,
        headers,
        body: String::from_utf8(bytes[head + 4..].to_vec()).ok()?,
    })
}
