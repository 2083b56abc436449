//! Waits for a condition, with one limit for all tests.

use std::{fmt::Display, future::Future, time::Duration};

use tokio::time::Instant;

/// The longest that a test waits for anything. It is no measure of speed: a test that passes waits only for its
/// condition, and a machine may be ten times as busy as it should be (twenty processes on two cores), or the lease of a
/// killed process may have to run out first. Mutation tests often wait for a condition that never holds: compiled with
/// `HOLDFAST_SHORT_PATIENCE` in the environment, it is that many seconds.
pub const PATIENCE: Duration = match option_env!("HOLDFAST_SHORT_PATIENCE") {
    None => Duration::from_secs(240),
    Some(seconds) => match u64::from_str_radix(seconds, 10) {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => panic!("HOLDFAST_SHORT_PATIENCE is a number of seconds"),
    },
};

/// Calls `condition` until it returns `Ok`, every 20 ms; returns its value.
///
/// # Panics
///
/// With the last `Err`, which shows what was seen, when [`PATIENCE`] is over.
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
