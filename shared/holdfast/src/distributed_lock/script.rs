//! The three scripts, each one round trip, and a shorter way to acquire.

use std::{sync::LazyLock, time::Duration};

use redis::{Cmd, ErrorKind, Pipeline, RedisResult, Script, ServerErrorKind, Value};
use uuid::Uuid;

use super::{
    connection::{Generation, Wire},
    fence::Floor,
    name::{FENCE_KEY, Name},
};

struct Code {
    text: &'static str,
    hash: String,
}

impl Code {
    fn new(text: &'static str) -> Self {
        let hash = Script::new(text).get_hash().to_owned();
        Self { text, hash }
    }
}

static ACQUIRE: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("acquire.lua")));
static EXTEND: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("extend.lua")));
static RELEASE: LazyLock<Code> = LazyLock::new(|| Code::new(include_str!("release.lua")));

/// The outcome of a request for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The lock is ours, with this fence, on this connection.
    Acquired(i64, Generation),
    /// Another holder has the lock, for this time if it does not renew it.
    Held(Duration),
}

/// The arguments of a request for a lock.
pub(super) struct Request<'a> {
    pub(super) name: &'a Name,
    pub(super) token: Uuid,
    pub(super) ttl: Duration,
    /// Set if the caller will wait: another holder's lock is flagged, so that its release is published.
    pub(super) waits: bool,
}

/// Requests a lock. Safe to repeat with the same token: if it has the lock already, it gets a new fence and the whole
/// time to live.
pub(super) async fn acquire(
    wire: &Wire,
    floor: &Floor,
    request: &Request<'_>,
) -> RedisResult<Outcome> {
    if let Some((fence, connection)) = acquire_shortly(wire, floor, request).await? {
        return Ok(Outcome::Acquired(fence, connection));
    }
    let (answer, connection) = run(wire, &ACQUIRE, request.name, |command, connection| {
        let above = floor.on(connection);
        command
            .arg(2)
            .arg(request.name.key())
            .arg(FENCE_KEY)
            .arg(text(request.token, &mut Uuid::encode_buffer()))
            .arg(millis(request.ttl))
            .arg(above.seen.get())
            .arg(u8::from(above.is_first))
            .arg(u8::from(request.waits));
    })
    .await?;
    Ok(if answer > 0 {
        Outcome::Acquired(answer, connection)
    } else {
        Outcome::Held(Duration::from_millis(answer.unsigned_abs()))
    })
}

/// Acquires a free lock by two plain commands, which are less work for Redis than the script. Requires a connection
/// whose counter is known to be right. After any other outcome than a grant the caller runs the script, which decides:
/// it finds the same token, or another holder's. Not tried while other requests wait on the connection: two replies are
/// more work for this process, which is then the bottleneck.
///
/// If the two commands reach Redis in two pieces, others may come between. Then the fence is newer than the lock; a
/// holder that acquired the lock meanwhile is refused by the database and starts again.
async fn acquire_shortly(
    wire: &Wire,
    floor: &Floor,
    request: &Request<'_>,
) -> RedisResult<Option<(i64, Generation)>> {
    let mut seen = 0;
    let answer = wire.send_all(|connection| {
        let above = floor.on(connection);
        seen = above.seen.get();
        (!above.is_first).then(|| {
            let mut set = command("SET", request.name);
            set.arg(request.name.key())
                .arg(text(request.token, &mut Uuid::encode_buffer()))
                .arg("NX")
                .arg("PX")
                .arg(millis(request.ttl));
            let mut incr = command("INCR", request.name);
            incr.arg(FENCE_KEY);
            let mut commands = Pipeline::with_capacity(2);
            commands.add_command(set).add_command(incr);
            commands
        })
    });
    // The lock is held, the counter is behind, or Redis refused: the script's reply tells which.
    Ok(answer
        .await?
        .and_then(|(answers, connection)| match answers[..] {
            [Value::Okay, Value::Int(fence)] if fence > seen => Some((fence, connection)),
            _ => None,
        }))
}

/// Renews a lock for its whole time to live; returns whether it was still ours.
pub(super) async fn extend(
    wire: &Wire,
    name: &Name,
    token: Uuid,
    ttl: Duration,
) -> RedisResult<bool> {
    let (answer, _) = run(wire, &EXTEND, name, |command, _| {
        command
            .arg(1)
            .arg(name.key())
            .arg(text(token, &mut Uuid::encode_buffer()))
            .arg(millis(ttl));
    })
    .await?;
    Ok(answer == 1)
}

/// The outcome of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// The lock was no longer ours.
    NotOurs,
    /// The lock was flagged: the release was published to the subscribers.
    Told,
    /// The lock had no flag: nothing was published.
    Quietly,
}

/// Releases a lock.
pub(super) async fn release(wire: &Wire, name: &Name, token: Uuid) -> RedisResult<Given> {
    let (answer, _) = run(wire, &RELEASE, name, |command, _| {
        command
            .arg(1)
            .arg(name.key())
            .arg(text(token, &mut Uuid::encode_buffer()));
    })
    .await?;
    Ok(match answer {
        0 => Given::NotOurs,
        1 => Given::Quietly,
        _ => Given::Told,
    })
}

/// Runs a script by its hash, and sends its text if Redis does not have it (any more).
async fn run(
    wire: &Wire,
    code: &Code,
    name: &Name,
    arguments: impl Fn(&mut Cmd, Generation),
) -> RedisResult<(i64, Generation)> {
    let with = |how: &str, what: &str, connection| {
        let mut command = command(how, name);
        command.arg(what);
        arguments(&mut command, connection);
        command
    };
    match wire
        .send(|connection| with("EVALSHA", &code.hash, connection))
        .await
    {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            wire.send(|connection| with("EVAL", code.text, connection))
                .await
        }
        answer => answer,
    }
}

/// Returns a command about a lock, with room for all our arguments: growing it one by one is a good part of its cost.
fn command(what: &str, name: &Name) -> Cmd {
    let mut command = Cmd::with_capacity(10, 128 + name.key().len());
    command.arg(what);
    command
}

fn text(token: Uuid, buffer: &mut [u8]) -> &str {
    token.hyphenated().encode_lower(buffer)
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).expect("a time to live has an upper bound")
}
