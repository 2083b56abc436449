//! The three scripts, each one round trip; and the short way round the one that acquires.

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

/// What came of asking for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is ours, with this fence, on this connection.
    Acquired(i64, Generation),
    /// It is somebody else's, for so long if they do not prolong it.
    Held(Duration),
}

/// Who asks for which lock.
pub(super) struct Request<'a> {
    pub(super) name: &'a Name,
    pub(super) token: Uuid,
    pub(super) ttl: Duration,
    /// Should somebody else have it, their release is to be told to who hears of this lock.
    pub(super) waits: bool,
}

/// Asks for a lock. Asking again with the same token is harmless: whoever has it already gets a new fence and the whole time.
pub(super) async fn acquire(
    wire: &Wire,
    floor: &Floor,
    request: &Request<'_>,
) -> RedisResult<Answer> {
    if let Some((fence, connection)) = acquire_shortly(wire, floor, request).await? {
        return Ok(Answer::Acquired(fence, connection));
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
        Answer::Acquired(answer, connection)
    } else {
        Answer::Held(Duration::from_millis(answer.unsigned_abs()))
    })
}

/// What the script does for a lock that is free, on a connection whose count is known to be right, is two plain commands, which are
/// less work for Redis. Nothing is decided when that does not do: the script finds the same token, or somebody else's. Where
/// others are on the connection too it is not tried: two answers are more work for us, and then ours is what counts.
///
/// Should Redis get them in two pieces, others may come between: then the fence is newer than the lock, and whoever got that
/// lock meanwhile is refused by the database and begins again.
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
    // It is somebody's, or the count is behind, or Redis refuses: why, it says to the script.
    Ok(answer
        .await?
        .and_then(|(answers, connection)| match answers[..] {
            [Value::Okay, Value::Int(fence)] if fence > seen => Some((fence, connection)),
            _ => None,
        }))
}

/// Gives a lock its whole time again; answers whether it was still ours.
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

/// What came of giving a lock back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// It was not ours any more.
    NotOurs,
    /// Somebody asked for it meanwhile who waits: those who hear of it have been told.
    Told,
    /// Nobody was told.
    Quietly,
}

/// Gives a lock back.
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

/// Runs a script that Redis knows by its hash; one that Redis does not know, or not any more, it is sent whole.
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

/// A command about a lock, with room for all that ours have: growing one argument at a time is a good part of its price.
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
