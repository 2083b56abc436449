//! The failure that fences are for, with real processes: one is stopped for longer than its time to live, one is
//! killed.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use holdfast::distributed_lock::Fence;
use sqlx::Executor;
use testkit::{PATIENCE, Redis};
use tokio::time::Instant;
use uuid::Uuid;

use super::fixture::{LONG, Register, SHORT, locks, write};

/// The variable that makes this test binary a holder: the URLs of Redis and of the database, and the lock's name, with
/// spaces between.
const HOLDER: &str = "HOLDFAST_TEST_LOCK_HOLDER";
/// The prefix of a holder's output, which distinguishes it from the test runner's.
const SAYS: &str = "holder: ";

/// A process that holds a lock.
struct Holder {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    fence: Fence,
}

impl Holder {
    /// Starts the process, and waits until it has the lock.
    fn start(redis: &Redis, register: &Register, name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "distributed_lock::pause::a_holder",
                "--nocapture",
            ])
            .env(HOLDER, format!("{} {} {name}", redis.url(), register.url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a copy of this test");
        let mut holder = Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")),
            child,
            fence: Fence::default(),
        };
        let fence = holder.hear().parse().expect("its fence");
        holder.fence = Fence::new(fence).expect("its fence");
        holder
    }

    /// Returns the process' next line of output.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("it says something");
            assert!(read > 0, "the holder ended");
            if let Some((_, said)) = line.split_once(SAYS) {
                return said.trim().to_owned();
            }
        }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // An error means that the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of the holder's process. Returns at once when it runs as a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder() {
    let Ok(order) = std::env::var(HOLDER) else {
        return;
    };
    let order: Vec<&str> = order.split(' ').collect();
    let [redis, database, name] = order[..] else {
        panic!("{order:?}");
    };
    let say = |what: String| {
        let mut output = std::io::stdout();
        writeln!(output, "\n{SAYS}{what}").expect("somebody listens");
        output.flush().expect("somebody listens");
    };
    let pool = sqlx::postgres::PgPoolOptions::new()
        .connect_lazy(database)
        .expect("a URL");
    let lock = locks(redis)
        .acquire_forever(name, SHORT)
        .await
        .expect("it is free");
    assert!(lock.is_held());
    say(lock.fence().to_string());
    // The test stops the process here.
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    read.await.expect("no panic").expect("a line");
    let unfenced = pool.execute("update unfenced set value = 1").await;
    say(format!(
        "held: {}, fenced: {:?}, unfenced: {}",
        lock.is_held(),
        write(&pool, name, lock.fence().get(), lock.token(), 1).await,
        unfenced.expect("the database answers").rows_affected(),
    ));
}

#[tokio::test]
async fn a_holder_that_was_stopped_for_too_long_is_refused() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let register = Register::create().await;
    register
        .pool
        .execute("create table unfenced (value bigint); insert into unfenced values (0)")
        .await
        .expect("a table");

    let mut paused = Holder::start(&redis, &register, &name);
    paused.signal("-STOP");
    // It renews nothing, so its time to live ends and the next holder works.
    let next = locks(redis.url()).acquire(&name, LONG, PATIENCE).await;
    let next = next.expect("its time ends");
    assert!(next.fence() > paused.fence);
    register
        .write(&name, next.fence(), next.token(), 2)
        .await
        .expect("the newest");
    register
        .pool
        .execute("update unfenced set value = 2")
        .await
        .expect("the database answers");

    // The process resumes in the middle of a line.
    paused.signal("-CONT");
    paused.input.write_all(b"go on\n").expect("it reads");
    let said = paused.hear();
    assert_eq!(
        said,
        format!("held: false, fenced: Err({}), unfenced: 1", next.fence())
    );
    assert_eq!(register.effects(&name).await, [(next.fence().get(), 2)]);
    // Without a fence the old value has overwritten the new one.
    let unfenced: i64 = sqlx::query_scalar("select value from unfenced")
        .fetch_one(&register.pool)
        .await
        .expect("the database answers");
    assert_eq!(unfenced, 1);
    assert!(next.is_held());
}

#[tokio::test]
async fn a_holder_that_was_killed_blocks_others_for_its_time_to_live() {
    let redis = Redis::shared();
    let name = redis.name("account");
    let register = Register::create().await;
    let killed = Holder::start(&redis, &register, &name);
    let begun = Instant::now();
    killed.signal("-KILL");
    let next = locks(redis.url()).acquire(&name, LONG, PATIENCE).await;
    let next = next.expect("its time ends");
    assert!(next.fence() > killed.fence);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    let written = register.write(&name, next.fence(), Uuid::now_v7(), 2).await;
    assert_eq!(written, Ok(()));
}
