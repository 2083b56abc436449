//! A mail server that keeps the mails that it gets.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdfast::backoff::pause;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A mail that the server took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Headers and body, as they were sent.
    pub text: String,
}

impl Mail {
    /// Returns headers and body without their soft line breaks.
    pub fn unwrapped(&self) -> String {
        self.text.replace("=\r\n", "")
    }

    /// Returns the value of a header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self
            .text
            .split("\r\n\r\n")
            .next()?
            .replace("\r\n ", " ")
            .replace("\r\n\t", " ");
        head.lines()
            .find_map(|line| {
                line.split_once(": ")
                    .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            })
            .map(|(_, value)| value.to_owned())
    }
}

/// The server's reaction to mails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmtpMode {
    /// Takes every mail.
    #[default]
    Accept,
    /// Replies "not now" (451) to each recipient.
    Defer,
    /// Replies "never" (550) to each recipient.
    Refuse,
    /// Takes the mail and hangs up without a reply: the client cannot know the outcome.
    TakeAndHangUp,
    /// Takes every mail, each reply 300 ms late.
    Dawdle,
    /// Takes sender and recipients, and refuses each mail once it has seen all of it (554).
    RefuseText,
}

/// A mail server that keeps the mails that it gets. It stops when this is dropped.
#[derive(Debug)]
pub struct SmtpSink {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
    mode: watch::Sender<SmtpMode>,
    _running: DropGuard,
}

#[derive(Clone)]
struct Shared {
    mails: Arc<Mutex<Vec<Mail>>>,
    /// The folder to which mails are written too, one file each.
    folder: Option<PathBuf>,
    mode: watch::Receiver<SmtpMode>,
}

impl SmtpSink {
    /// Listens on a free port.
    pub async fn start() -> Self {
        Self::listen("127.0.0.1:0".parse().expect("an address"), None)
            .await
            .expect("a free port")
    }

    /// Listens on `address`; writes each mail to a file in `folder`, if there is one.
    pub async fn listen(address: SocketAddr, folder: Option<PathBuf>) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (mode, watched) = watch::channel(SmtpMode::Accept);
        let shared = Shared {
            mails: Arc::default(),
            folder,
            mode: watched,
        };
        let mails = Arc::clone(&shared.mails);
        let running = CancellationToken::new();
        let stop = running.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        // An error means that the client hung up: there is nothing to do about it.
                        let _ = converse(stream, &shared).await;
                    });
                }
            }
        }));
        Ok(Self {
            address,
            mails,
            mode,
            _running: running.drop_guard(),
        })
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL by which a service connects to it.
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Sets the reaction to the next mails.
    pub fn set(&self, mode: SmtpMode) {
        self.mode.send_replace(mode);
    }

    /// Returns the mails that were taken and whose subject contains `part`, in the order in which they came.
    pub fn mails(&self, part: &str) -> Vec<Mail> {
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails
            .iter()
            .filter(|mail| {
                mail.header("Subject")
                    .is_some_and(|subject| subject.contains(part))
            })
            .cloned()
            .collect()
    }
}

/// Speaks as much of RFC 5321 as a client needs that sends one mail after the other.
async fn converse(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut lines = BufReader::new(from);
    to.write_all(b"220 sink ESMTP\r\n").await?;
    let mut mail = Mail::default();
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let command = line.trim_end().to_ascii_uppercase();
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let mode = *shared.mode.borrow();
        let reply = if command.starts_with("EHLO") || command.starts_with("HELO") {
            "250 sink"
        } else if command.starts_with("MAIL FROM") {
            mail = Mail {
                from: address(),
                ..Mail::default()
            };
            "250 ok"
        } else if command.starts_with("RCPT TO") {
            match mode {
                SmtpMode::Defer => "451 not now",
                SmtpMode::Refuse => "550 never",
                SmtpMode::Accept
                | SmtpMode::TakeAndHangUp
                | SmtpMode::Dawdle
                | SmtpMode::RefuseText => {
                    mail.to.push(address());
                    "250 ok"
                }
            }
        } else if command == "DATA" {
            to.write_all(b"354 go on\r\n").await?;
            mail.text = read_data(&mut lines).await?;
            if mode == SmtpMode::RefuseText {
                "554 not this one"
            } else {
                shared.keep(&mail).await?;
                if mode == SmtpMode::TakeAndHangUp {
                    return Ok(());
                }
                "250 taken"
            }
        } else if command == "QUIT" {
            to.write_all(b"221 bye\r\n").await?;
            return Ok(());
        } else if command == "RSET" || command == "NOOP" {
            "250 ok"
        } else {
            "502 what?"
        };
        if mode == SmtpMode::Dawdle {
            pause(Duration::from_millis(300)).await;
        }
        to.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
}

async fn read_data(lines: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<String> {
    let mut text = String::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(text);
        }
        // The client puts a dot before each line that begins with one.
        let line = line.strip_prefix(b".").unwrap_or(&line);
        text.push_str(&String::from_utf8_lossy(line));
    }
}

impl Shared {
    async fn keep(&self, mail: &Mail) -> std::io::Result<()> {
        let count = {
            let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
            // A sink that writes files need not keep the mails.
            if self.folder.is_none() {
                mails.push(mail.clone());
            }
            mails.len()
        };
        if let Some(folder) = &self.folder {
            let name = mail
                .header("Message-ID")
                .unwrap_or_else(|| count.to_string());
            let name: String = name
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || "-.@".contains(*c))
                .collect();
            tokio::fs::write(folder.join(format!("{name}.eml")), &mail.text).await?;
        }
        Ok(())
    }
}
