//! Transaction: all or nothing, even for a caller that is cut short.
//!
//! # Problem
//!
//! A request's deadline passes while its `BEGIN` is under way. sqlx 0.9.0 counts a transaction only after the reply, so
//! its guard rolls nothing back, and the pool lends out a connection with an open transaction. What the next user
//! writes there without a transaction of its own is confirmed, and undone later: 120 of 1,500 messages were
//! acknowledged and stored nowhere ([sqlx#4393](https://github.com/transact-rs/sqlx/issues/4393), fixed after 0.9.0).
//!
//! # Guarantee
//!
//! A connection goes back to the pool outside of any transaction, wherever the caller was dropped: during [`begin`],
//! between two statements, during [`Transaction::commit`]. A commit that returns `Ok` did commit: PostgreSQL replies to
//! `COMMIT` without an error if an earlier statement failed, and rolls back; here that is an error. A commit that was
//! begun is run to its end, even if its caller is dropped.
//!
//! # Not guaranteed
//!
//! An outcome for a caller that was dropped during a commit, or that got an error from it: look it up, or repeat it
//! under the same key. Savepoints: there are none.
//!
//! # States
//!
//! Open; ended by [`Transaction::commit`], [`Transaction::rollback`], or by a drop, which rolls back in a task of its
//! own. A session whose state is in doubt is closed instead of lent out again.
//!
//! # Failure modes
//!
//! A statement that was dropped while it ran goes on in PostgreSQL, up to its `statement_timeout`: the rollback waits
//! for it, and holds its connection for that long. A commit that fails closes its connection. A pool that is shut down
//! under an open transaction leaves it to PostgreSQL, which rolls back when the session ends. [`classify`] tells errors
//! of the server, after which the same transaction may succeed, from errors of the statement, after which it cannot.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool) -> sqlx::Result<()> {
//! let mut tx = holdfast::transaction::begin(&pool).await?;
//! sqlx::query("update account set balance = balance - 5 where owner = 'alice'").execute(&mut *tx).await?;
//! sqlx::query("update account set balance = balance + 5 where owner = 'bob'").execute(&mut *tx).await?;
//! tx.commit().await
//! # }
//! ```
//!
//! # Copying this
//!
//! This folder, [`completion`](crate::completion), and the crates `sqlx` (PostgreSQL) and `tokio` (`rt`, `time`).
//! Forbid `sqlx::Pool::begin` and its siblings in `clippy.toml`, as Holdfast does: one call of them in the same pool
//! brings the fault back.
//!
//! Sources: PostgreSQL's documentation, "Message Flow" (the transaction status in `ReadyForQuery`), `COMMIT`, and
//! "Appendix A. PostgreSQL Error Codes".

mod class;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

pub use class::{Class, classify};
use sqlx::{Executor, PgConnection, PgPool, Postgres, pool::PoolConnection};
use tokio::{runtime::Handle, time::timeout};

use crate::completion::complete;

/// The longest time of a rollback, after which its connection is closed instead. A rollback waits for a statement that
/// still runs.
const ROLLBACK: Duration = Duration::from_secs(30);

/// A transaction on a connection of a pool.
pub struct Transaction {
    /// `None` once it has ended.
    session: Option<PoolConnection<Postgres>>,
    /// The runtime on which a drop rolls back.
    runtime: Handle,
}

/// Begins a transaction on a connection of `pool`.
///
/// Cancel safe: if it is dropped while it waits for a connection, it has sent nothing; if it is dropped after that, the
/// transaction is begun and rolled back in a task of its own.
pub async fn begin(pool: &PgPool) -> sqlx::Result<Transaction> {
    let session = pool.acquire().await?;
    let mut transaction = Transaction {
        session: Some(session),
        runtime: Handle::current(),
    };
    complete(async move {
        transaction.execute("BEGIN").await?;
        Ok(transaction)
    })
    .await
}

impl Transaction {
    /// Commits the transaction.
    ///
    /// After an error the outcome is unknown, unless it is PostgreSQL's own: then nothing was committed. Cancel safe: a
    /// commit that was begun ends.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        complete(async move {
            // PostgreSQL refuses the empty SELECT if an earlier statement failed. A COMMIT alone it would turn into a
            // rollback that reports success.
            let committed = self.execute("SELECT; COMMIT").await;
            let session = self.session.take();
            if committed.is_err()
                && let Some(mut session) = session
            {
                session.close_on_drop();
            }
            committed
        })
        .await
    }

    /// Rolls back, and waits for the end of it. Dropping the transaction does the same without waiting. Cancel safe.
    pub async fn rollback(mut self) -> sqlx::Result<()> {
        match self.session.take() {
            Some(session) => complete(roll_back(session)).await,
            None => Ok(()),
        }
    }

    async fn execute(&mut self, statement: &'static str) -> sqlx::Result<()> {
        Executor::execute(&mut **self, statement).await.map(drop)
    }
}

/// Ends the transaction of `session`, or the session.
async fn roll_back(mut session: PoolConnection<Postgres>) -> sqlx::Result<()> {
    let rolled_back = timeout(ROLLBACK, session.execute("ROLLBACK"))
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
    if rolled_back.is_err() {
        session.close_on_drop();
    }
    rolled_back.map(drop)
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // The pool needs a runtime to close or return a connection.
            let _context = self.runtime.enter();
            // An error closes the session, which rolls back as well.
            self.runtime
                .spawn(async move { roll_back(session).await.ok() });
        }
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.session
            .as_ref()
            .expect("only ending it takes the session")
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.session
            .as_mut()
            .expect("only ending it takes the session")
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("open", &self.session.is_some())
            .finish_non_exhaustive()
    }
}
