//! One holder at a time, a holder that is notified of a loss, and a fence for one that is not. Needs a Redis.
//!
//! ```console
//! $ cargo xtask example distributed_lock        # starts a private Redis, or:
//! $ REDIS_URL=redis://127.0.0.1:6379 cargo run -p holdfast --example distributed_lock
//! ```
//!
//! It uses the lock `holdfast-example` and no other key but `lock:#fence`, the counter of all locks in that Redis.

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::time::Duration;

use anyhow::{Context, bail};
use holdfast::distributed_lock::{Error, Fence, Locks, Options};
use tokio::time::Instant;

const NAME: &str = "holdfast-example";
const TTL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(5);

/// The data that the lock protects. It remembers the newest fence, as a table in your database would.
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
    // Two processes, from Redis' point of view.
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
    release_wakes_the_waiter(&ours, &theirs).await?;
    scope_releases(&ours).await?;
    loss_ends_the_work(&ours, &url).await?;
    fence_refuses_the_overtaken_holder(&ours, &theirs, &url).await
}

async fn release_wakes_the_waiter(ours: &Locks, theirs: &Locks) -> anyhow::Result<()> {
    println!("1. One process holds it. Another waits without polling; the release wakes it.");
    let lock = ours.acquire(NAME, TTL, PATIENCE).await?;
    println!("   we hold it with fence {}", lock.fence());
    let asked = theirs.try_acquire(NAME, TTL).await?;
    println!("   they try, and are told at once: {asked:?}");
    let error = theirs.acquire(NAME, TTL, TTL * 2).await.err();
    println!(
        "   they wait for twice its time to live, in vain, because it is renewed: {}",
        error.context("no other process has it")?
    );
    let waiting = tokio::spawn({
        let theirs = theirs.clone();
        async move { (theirs.acquire(NAME, TTL, PATIENCE).await, Instant::now()) }
    });
    // Lets them wait before the release, so that the release wakes them.
    holdfast::backoff::pause(TTL / 10).await;
    let released = Instant::now();
    println!("   we release it: {:?}", lock.release().await?);
    let (lock, got) = waiting.await?;
    let lock = lock?;
    println!(
        "   they have it {:?} later, with fence {}",
        got - released,
        lock.fence()
    );
    drop(lock);
    Ok(())
}

async fn scope_releases(ours: &Locks) -> anyhow::Result<()> {
    println!("2. A scope releases whatever happens in it.");
    let answer = ours
        .with(NAME, TTL, PATIENCE, async |lock| lock.is_held())
        .await?;
    println!("   held inside: {answer}");
    Ok(())
}

async fn loss_ends_the_work(ours: &Locks, url: &str) -> anyhow::Result<()> {
    println!("3. Redis loses the lock while we work. We are told, and the work is dropped.");
    let begun = Instant::now();
    let outcome = ours
        .with(NAME, TTL, PATIENCE, async |lock| {
            steal(url).await?;
            println!("   still held, as far as we know: {}", lock.is_held());
            std::future::pending::<anyhow::Result<()>>().await
        })
        .await;
    match outcome {
        Err(Error::Lost(name)) => println!("   {name} was lost; told after {:?}", begun.elapsed()),
        other => bail!("that should have been a loss: {other:?}"),
    }
    Ok(())
}

async fn fence_refuses_the_overtaken_holder(
    ours: &Locks,
    theirs: &Locks,
    url: &str,
) -> anyhow::Result<()> {
    println!("4. A holder that was not told in time writes anyway. The account refuses it.");
    let mut account = Account::default();
    let slow = ours.acquire(NAME, TTL, PATIENCE).await?;
    steal(url).await?;
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

/// Deletes the lock, as a restart of Redis without its memory would.
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
