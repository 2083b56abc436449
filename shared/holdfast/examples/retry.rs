//! Retry: repeat a failed call only where that is safe, and within a budget. Needs nothing but this process.
//!
//! ```console
//! $ cargo run -p holdfast --example retry
//! ```
//!
//! The price service below is a TCP server that answers one line per connection. It fails for a moment, it asks its
//! clients to wait, and it dies. Its clients retry: sometimes, not always, and never without end.

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use holdfast::{
    backoff::Backoff,
    deadline::{Deadline, Exceeded},
    retry::{Advice, Budget, GaveUp, Retry, Retryable},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200))?;
    let retry = Retry::new(4, backoff);
    let second = Duration::from_secs(1);

    println!("1. A short failure: the first two calls find it busy.");
    let shop = Shop::open(|call| if call <= 2 { "busy" } else { "price 690" }).await?;
    shop.tell(&retry, Deadline::after(second)).await;

    println!("\n2. A refusal: a retry would get the same answer, so there is none.");
    let shop = Shop::open(|_| "no such product").await?;
    shop.tell(&retry, Deadline::after(second)).await;

    println!("\n3. It says when to try again (Retry-After), and its client obeys.");
    let shop = Shop::open(|call| if call == 1 { "later 300" } else { "price 690" }).await?;
    shop.tell(&retry, Deadline::after(second)).await;

    println!(
        "\n4. The customer waits for 200 ms and the service says 300 ms: the call ends at once."
    );
    let shop = Shop::open(|_| "later 300").await?;
    shop.tell(&retry, Deadline::after(second / 5)).await;

    println!("\n5. It is dead, and 200 customers call, one after the other. It gets:");
    // Short waits, so that the example is short. The count does not depend on them.
    let quick = Backoff::new(Duration::from_micros(10), Duration::from_micros(20))?;
    let without = Retry::new(4, quick);
    // Over time one call in ten may be a retry, and ten retries are available at the start. A program makes one budget
    // for each dependency, shared by all calls to it.
    let with = without.clone().with_budget(Budget::new(0.1, 10)?.into());
    for (what, retry) in [("without a budget", without), ("with a budget", with)] {
        let shop = Shop::open(|_| "busy").await?;
        for _ in 0..200 {
            // The shop goes on without a price.
            let _ = shop.ask(&retry, Deadline::after(second)).await;
        }
        println!("   {what:<17} {:>4} calls", shop.calls());
    }
    println!("   The first rule keeps a dead service dead; the second adds what it can bear.");
    Ok(())
}

/// The reason for which there is no price.
#[derive(Debug)]
enum Error {
    /// The service is too busy.
    Busy,
    /// The service is too busy, and its response names the wait.
    Later(Duration),
    /// The service will never have that price.
    Refused(String),
    /// There is no connection, or it broke.
    Unreachable(io::Error),
    /// No answer in time. It may be on its way.
    Late(Exceeded),
}

impl Retryable for Error {
    // Asking for a price buys nothing, so it is safe to repeat, whatever happened to the first request. For a payment,
    // `Unreachable` and `Late` would be `Never`, unless the callee recognises a repetition by its idempotency key.
    fn advice(&self) -> Advice {
        match self {
            Self::Busy | Self::Unreachable(_) => Advice::Backoff,
            Self::Later(after) => Advice::After(*after),
            // A refusal would be repeated, and after `Late` there is no time left.
            Self::Refused(_) | Self::Late(_) => Advice::Never,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("busy"),
            Self::Later(after) => write!(f, "busy, try again in {after:?}"),
            Self::Refused(why) => f.write_str(why),
            Self::Unreachable(error) => error.fmt(f),
            Self::Late(late) => late.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// A price service that counts its calls.
struct Shop {
    address: SocketAddr,
    calls: Arc<AtomicU32>,
}

impl Shop {
    /// Starts a service that answers its nth call, counted from 1, with `answer(n)`.
    async fn open(answer: fn(u32) -> &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let calls = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&calls);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let call = counted.fetch_add(1, Ordering::Relaxed) + 1;
                // A caller that has left is not the server's problem.
                let _ = connection.write_all(answer(call).as_bytes()).await;
            }
        });
        Ok(Self { address, calls })
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Makes one call, of one or more attempts. All of them share one deadline, by which each bounds itself.
    async fn ask(&self, retry: &Retry, deadline: Deadline) -> Result<String, GaveUp<Error>> {
        let attempt = async |_| {
            deadline
                .run(self.attempt())
                .await
                .unwrap_or_else(|late| Err(Error::Late(late)))
        };
        retry.run(deadline, attempt).await
    }

    async fn attempt(&self) -> Result<String, Error> {
        let answer = async {
            let mut connection = TcpStream::connect(self.address).await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await?;
            Ok(answer)
        };
        let answer = answer.await.map_err(Error::Unreachable)?;
        match answer.split_once(' ') {
            Some(("price", _)) => Ok(answer),
            Some(("later", ms)) => Err(ms
                .parse()
                .map_or(Error::Busy, |ms| Error::Later(Duration::from_millis(ms)))),
            _ if answer == "busy" => Err(Error::Busy),
            _ => Err(Error::Refused(answer)),
        }
    }

    /// Makes a call and prints its outcome.
    async fn tell(&self, retry: &Retry, deadline: Deadline) {
        let begun = Instant::now();
        let answer = match self.ask(retry, deadline).await {
            Ok(price) => price,
            Err(gave_up) => gave_up.to_string(),
        };
        let (calls, ms) = (self.calls(), begun.elapsed().as_millis());
        println!("   {answer} (calls: {calls}, {ms} ms)");
    }
}
