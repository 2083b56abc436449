//! Waiting for a condition.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::time::Instant;

/// How long a test waits for something that should happen at once. Generous: machines are slow at times, and a test that
/// passes does not wait.
pub const PATIENCE: Duration = Duration::from_secs(30);

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
