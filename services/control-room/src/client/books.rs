//! Compares the books.

use std::time::{Duration, Instant};

use load_tests::reconcile::{Check, Glance, Sources};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::error::Error;

/// The result of a comparison of the books.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Invariants {
    #[serde(with = "time::serde::rfc3339")]
    checked_at: OffsetDateTime,
    /// Each rule: `name`, `what` it means, its `verdict` (holds, waits or broken), and the figures in `detail`.
    #[schema(value_type = Vec<Object>)]
    checks: Vec<Check>,
}

/// A comparer of the books, which keeps its last result.
pub(crate) struct Auditor {
    glance: Glance,
    /// The time and the result of the last comparison.
    last: Mutex<Option<(Instant, Invariants)>>,
}

/// The time for which a result is returned again, instead of a new comparison.
const FRESH: Duration = Duration::from_secs(2);
/// The time limit of a comparison.
const LOOK: Duration = Duration::from_secs(10);

impl Auditor {
    pub(crate) fn new(books: &Sources) -> anyhow::Result<Self> {
        Ok(Self {
            glance: Glance::new(books)?,
            last: Mutex::new(None),
        })
    }

    /// Compares the books, or returns the last result while it is newer than [`FRESH`]. One comparison runs at a time:
    /// other callers wait for its result. Fails with [`Error::Away`] after [`LOOK`], or if a database or the broker
    /// cannot be read.
    pub(crate) async fn look(&self) -> Result<Invariants, Error> {
        let away = |why: String| Error::Away {
            service: "a database, or the broker",
            why,
        };
        let mut last = self.last.lock().await;
        if let Some((at, invariants)) = &*last
            && at.elapsed() < FRESH
        {
            return Ok(invariants.clone());
        }
        let checks = tokio::time::timeout(LOOK, self.glance.look()).await;
        let checks = checks.map_err(|_| away(format!("not within {LOOK:?}")))?;
        let invariants = Invariants {
            checked_at: OffsetDateTime::now_utc(),
            checks: checks.map_err(|error| away(format!("{error:#}")))?,
        };
        *last = Some((Instant::now(), invariants.clone()));
        Ok(invariants)
    }
}
