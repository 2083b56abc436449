//! The books, compared while somebody looks.

use std::time::{Duration, Instant};

use load_tests::reconcile::{Check, Glance, Sources};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use crate::error::Error;

/// What a look at the books says.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Invariants {
    #[serde(with = "time::serde::rfc3339")]
    checked_at: OffsetDateTime,
    /// Each rule: `name`, `what` it means, its `verdict` (holds, waits or broken), and the figures in `detail`.
    #[schema(value_type = Vec<Object>)]
    checks: Vec<Check>,
}

/// Compares the books.
pub(crate) struct Auditor {
    glance: Glance,
    /// The last look, and how long it took.
    last: Mutex<Option<(Instant, Invariants)>>,
}

/// A look is good for as long.
const FRESH: Duration = Duration::from_secs(2);
/// How long a look may take.
const LOOK: Duration = Duration::from_secs(10);

impl Auditor {
    pub(crate) fn new(books: &Sources) -> anyhow::Result<Self> {
        Ok(Self {
            glance: Glance::new(books)?,
            last: Mutex::new(None),
        })
    }

    /// Looks at the books, unless somebody just has. One look at a time.
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
