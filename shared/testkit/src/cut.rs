//! Calls that are cut short, at each place where that can happen.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// Polls `call` at most `polls` times, then drops it. Returns its result if it ended before that.
///
/// A future is dropped only where it waits. So calling this with 0, 1, 2, … until it returns a result has dropped the
/// call at each of its waits, as a deadline, a client that hangs up or a shutdown would.
///
/// ```
/// # use testkit::cut;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let call = async || tokio::task::yield_now().await;
/// assert_eq!(cut(0, call()).await, None);
/// assert_eq!(cut(1, call()).await, None);
/// assert_eq!(cut(2, call()).await, Some(()));
/// # }
/// ```
pub async fn cut<F: Future>(polls: usize, call: F) -> Option<F::Output> {
    let mut call = pin!(call);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        call.as_mut().poll(context).map(Some)
    })
    .await
}
