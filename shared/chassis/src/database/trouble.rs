//! Four ways in which a database fails to serve. Each needs its own repair, so each has its own name in responses, logs
//! and metrics.

use std::{io, sync::Arc, time::Duration};

use holdfast::transaction::{Class, classify};
use metrics::{Unit, counter, describe_counter};
use sqlx::{Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// A reason for which the database did not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// All connections of the pool are in use, and none became free in time: too much work, or work that is too slow.
    Busy,
    /// A statement took longer than `DATABASE_STATEMENT_TIMEOUT_MS`.
    Slow,
    /// The server is unavailable, is starting, is full, does not accept our account, or takes no writes.
    Refused,
    /// A connection broke in use. The last statement may or may not have taken effect.
    Lost,
}

impl Trouble {
    /// Every kind of trouble, once.
    const ALL: [Self; 4] = [Self::Busy, Self::Slow, Self::Refused, Self::Lost];

    /// Returns the name in metrics, which is also the end of the problem's type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "database-busy",
            Self::Slow => "database-slow",
            Self::Refused => "database-refused",
            Self::Lost => "database-lost",
        }
    }

    /// Returns a description for people.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Busy => "all connections to the database are in use",
            Self::Slow => "the database took too long",
            Self::Refused => "the database refuses to serve",
            Self::Lost => "the connection to the database was lost",
        }
    }

    /// Returns the trouble that an error shows, unless it is the query's own fault or a conflict.
    ///
    /// A pool that timed out counts as [`Busy`](Self::Busy) here, although it may have waited for an unavailable
    /// server: [`Look::explain`] distinguishes the two.
    pub fn of(error: &sqlx::Error) -> Option<Self> {
        match classify(error) {
            Class::Unavailable => {}
            Class::TooSlow => return Some(Self::Slow),
            Class::Conflict | Class::Other => return None,
        }
        Some(match error {
            sqlx::Error::PoolTimedOut => Self::Busy,
            sqlx::Error::Io(error) if is_refusal(error.kind()) => Self::Refused,
            sqlx::Error::Database(error) => match error.code().as_deref() {
                // connection exceptions and failures in a session; an administrator's or a crash's end of it
                Some(code) if code.starts_with("08") => Self::Lost,
                Some("57P01" | "57P02" | "25P03") => Self::Lost,
                _ => Self::Refused,
            },
            _ => Self::Lost,
        })
    }

    /// Counts the trouble in `database_unavailable_total`.
    pub fn count(self) {
        counter!("database_unavailable_total", "why" => self.name()).increment(1);
    }
}

fn is_refusal(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound,
    };
    matches!(
        kind,
        ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable | NotFound
    )
}

/// A look at the database on a connection of its own: it is independent of the pool.
///
/// One look is good for a second, and concurrent callers share it.
#[derive(Clone, Debug)]
pub struct Look {
    options: Arc<PgConnectOptions>,
    /// A tokio Mutex, held while a look is awaited: callers meanwhile wait for the same look.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The last look that ended or was abandoned: its time and its result.
    last: Option<(Instant, bool)>,
    /// A look under way. It goes on after its caller stopped waiting: on a busy machine connecting alone may take
    /// longer than the caller waits.
    running: Option<JoinHandle<(Option<PgConnection>, bool)>>,
    /// The connection of the last look, if that went well.
    connection: Option<PgConnection>,
}

/// The time for which a look is good.
const FRESH: Duration = Duration::from_secs(1);
/// The time for which a caller waits for a look.
const WAIT: Duration = Duration::from_secs(1);
/// The time limit of a look. After it the connection is dropped, and the next look starts again.
const LOOK: Duration = Duration::from_secs(10);

impl Look {
    /// Makes a look at the database of `pool`. Connects at the first use.
    pub fn new(pool: &PgPool) -> Self {
        Self {
            options: pool.connect_options(),
            state: Arc::default(),
        }
    }

    /// Returns whether the database accepts connections and writes now: a standby is of no use to a service. A database
    /// that does not respond within a second is not well.
    ///
    /// Cancel safe: the look goes on, and the next caller has its result.
    pub async fn is_well(&self) -> bool {
        let mut state = self.state.lock().await;
        if let Some((at, well)) = state.last
            && at.elapsed() < FRESH
        {
            return well;
        }
        if state.running.is_none() {
            let (connection, options) = (state.connection.take(), Arc::clone(&self.options));
            state.running = Some(tokio::spawn(look(connection, options)));
        }
        let well = match &mut state.running {
            Some(running) => match timeout(WAIT, running).await {
                Ok(ended) => {
                    let (connection, well) = ended.unwrap_or((None, false));
                    state.running = None;
                    state.connection = connection;
                    well
                }
                Err(_) => false,
            },
            None => false,
        };
        state.last = Some((Instant::now(), well));
        well
    }

    /// Returns the trouble behind an error that [`Trouble::of`] took for a busy pool; any other trouble as it is. Waits
    /// for a look at the database if the pool was busy. Cancel safe.
    pub async fn explain(&self, trouble: Trouble) -> Trouble {
        if trouble == Trouble::Busy && !self.is_well().await {
            Trouble::Refused
        } else {
            trouble
        }
    }

    /// Closes the look's own connection, once no caller waits for a look. A later look opens a new one.
    pub async fn close(&self) {
        let mut state = self.state.lock().await;
        if let Some(running) = state.running.take() {
            running.abort();
        }
        if let Some(connection) = state.connection.take() {
            // The connection is gone either way.
            let _ = connection.close().await;
        }
    }
}

/// Looks, on `connection` if that still works. Returns the connection that worked, and whether the database is well.
async fn look(
    connection: Option<PgConnection>,
    options: Arc<PgConnectOptions>,
) -> (Option<PgConnection>, bool) {
    let look = async {
        if let Some(mut old) = connection
            && let Ok(well) = writes(&mut old).await
        {
            return (Some(old), well);
        }
        match PgConnection::connect_with(&options).await {
            Ok(mut new) => match writes(&mut new).await {
                Ok(well) => (Some(new), well),
                Err(_) => (None, false),
            },
            Err(_) => (None, false),
        }
    };
    timeout(LOOK, look).await.unwrap_or((None, false))
}

async fn writes(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar("select current_setting('transaction_read_only') = 'off'")
        .fetch_one(connection)
        .await
}

/// Describes the metric, for readers of `/metrics`.
pub(crate) fn describe() {
    describe_counter!(
        "database_unavailable_total",
        Unit::Count,
        "Requests that were answered 503 because of the database: its pool was busy, a statement was slow, it refused to serve, or a connection was lost"
    );
    for trouble in Trouble::ALL {
        counter!("database_unavailable_total", "why" => trouble.name()).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_without_a_session_are_named() {
        let io = |kind: io::ErrorKind| sqlx::Error::Io(kind.into());
        for (error, trouble) in [
            (sqlx::Error::PoolTimedOut, Some(Trouble::Busy)),
            (io(io::ErrorKind::ConnectionRefused), Some(Trouble::Refused)),
            (io(io::ErrorKind::ConnectionReset), Some(Trouble::Lost)),
            (io(io::ErrorKind::UnexpectedEof), Some(Trouble::Lost)),
            (sqlx::Error::RowNotFound, None),
        ] {
            assert_eq!(Trouble::of(&error), trouble, "{error}");
        }
    }
}
