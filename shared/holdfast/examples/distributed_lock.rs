//! One holder at a time, a holder that is told, and a fence for the one that is not. Needs a Redis.
//!
//! ```console
//! $ cargo xtask example distributed_lock        # starts a private Redis, or:
//! $ REDIS_URL=redis://127.0.0.1:6379 cargo run -p holdfast --example distributed_lock
//! ```
//!
//! It uses the lock `holdfast-example` and no other key but `lock:#fence`, which every lock of that Redis counts in.

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::time::Duration;

use anyhow::{Context, bail};
use holdfast::distributed_lock::{Error, Fence, Locks, Options};
use tokio::time::Instant;

const NAME: &str = "holdfast-example";
const TTL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// What the lock protects. It remembers the newest fence, as a table in your database would.
#[derive(Default)]
struct Account {
    newest: Fence,
    balance: i64,
}

impl Account {
    fn write(&mut self, fence: Fence, balance: i64) -> Result<(), Fence> {
        if fence < self.newest {
            return Err(self.newest);
        }
        (self.newest, self.balance) = (fence, balance);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    // Two processes, as far as Redis can tell.
    let ours = Locks::new(&Options::new(&url)).context("REDIS_URL")?;
    let theirs = Locks::new(&Options::new(&url)).context("REDIS_URL")?;
    if let Err(error) = ours.ping().await {
        bail!(
            "{error}\n\nThis example needs a Redis 6.2 or newer. Either\n\n    \
             cargo xtask example distributed_lock\n\n\
             which starts a private one, or set REDIS_URL to one of yours:\n\n    \
             docker run --rm --detach --publish 127.0.0.1:6379:6379 redis:8.0\n"
        );
    }

    println!("1. One holds it. Another asks, waits, and is woken by the release: nobody polls.");
    let lock = ours.acquire(NAME, TTL, PATIENCE).await?;
    println!("   we hold it with fence {}", lock.fence());
    let asked = theirs.try_acquire(NAME, TTL).await?;
    println!("   they ask, and are told at once: {asked:?}");
    let error = theirs.acquire(NAME, TTL, TTL * 2).await.err();
    println!(
        "   they wait for twice as long as it lives, in vain, as it is prolonged: {}",
        error.context("nobody else has it")?
    );
    let waiting = tokio::spawn({
        let theirs = theirs.clone();
        async move { (theirs.acquire(NAME, TTL, PATIENCE).await, Instant::now()) }
    });
    // So that they are in line: what is shown is the release, and not that it was free.
    holdfast::backoff::pause(TTL / 10).await;
    let released = Instant::now();
    println!("   we give it back: {:?}", lock.release().await?);
    let (lock, got) = waiting.await?;
    let lock = lock?;
    println!(
        "   they have it {:?} later, with fence {}",
        got - released,
        lock.fence()
    );
    drop(lock);

    println!("2. A scope releases whatever happens in it.");
    let answer = ours
        .with(NAME, TTL, PATIENCE, async |lock| lock.is_held())
        .await?;
    println!("   held inside: {answer}");

    println!("3. Redis loses the lock while we work. We are told, and the work is dropped.");
    let begun = Instant::now();
    let outcome = ours
        .with(NAME, TTL, PATIENCE, async |lock| {
            steal(&url).await?;
            println!("   still held, as far as we know: {}", lock.is_held());
            std::future::pending::<anyhow::Result<()>>().await
        })
        .await;
    match outcome {
        Err(Error::Lost(name)) => println!("   {name} was lost; told after {:?}", begun.elapsed()),
        other => bail!("that should have been a loss: {other:?}"),
    }

    println!("4. And one that was not told in time writes anyway. The account knows better.");
    let mut account = Account::default();
    let slow = ours.acquire(NAME, TTL, PATIENCE).await?;
    steal(&url).await?;
    let quick = theirs.acquire(NAME, TTL, PATIENCE).await?;
    println!(
        "   two hold it: {} with fence {}, {} with fence {}",
        slow.is_held(),
        slow.fence(),
        quick.is_held(),
        quick.fence()
    );
    account
        .write(quick.fence(), 200)
        .map_err(|_| anyhow::anyhow!("it is the newest"))?;
    match account.write(slow.fence(), 100) {
        Err(newest) => println!("   the older one is refused: {newest} was here"),
        Ok(()) => bail!("a write was lost"),
    }
    println!(
        "   the balance is {}, as the newer one left it",
        account.balance
    );
    Ok(())
}

/// Takes the lock away, as a Redis does that restarts without its memory.
async fn steal(url: &str) -> anyhow::Result<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let key = format!("lock:{NAME}");
    redis::cmd("DEL")
        .arg(key)
        .exec_async(&mut connection)
        .await?;
    Ok(())
}
