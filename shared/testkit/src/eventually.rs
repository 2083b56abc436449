//! Waiting for a condition.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::time::Instant;

/// Longest wait of a test for anything, in one place. It is no measure of speed: a test that passes waits only for its condition,
/// and a machine may be ten times as busy as it should be (twenty processes on two cores), or a lease of a killed process have to
/// run out first. Mutation tests wait for what never comes, again and again: compiled with `HOLDFAST_SHORT_PATIENCE` in the
/// environment, it is 45 s.
pub const PATIENCE: Duration = match option_env!("HOLDFAST_SHORT_PATIENCE") {
    None => Duration::from_secs(240),
    Some(_) => Duration::from_secs(45),
};

/// Asks `condition` again and again until it answers `Ok`; panics with its last `Err`, which says what it saw.
///
/// # Panics
///
/// When [`PATIENCE`] is over.
pub async fn eventually<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let begun = Instant::now();
    loop {
        match condition().await {
            Ok(answer) => return answer,
            Err(seen) if begun.elapsed() > PATIENCE => {
                panic!("{what}: not within {PATIENCE:?}; last seen: {seen}")
            }
            Err(_) => holdfast::backoff::pause(Duration::from_millis(20)).await,
        }
    }
}
