//! Completion: a call that ends even if its caller does not wait for the end.
//!
//! # Problem
//!
//! A request sends `BEGIN` to PostgreSQL and is dropped before the reply: its deadline passed, or its client hung up.
//! The server has an open transaction, the client library believes that there is none, and the connection goes back to
//! the pool. The next user of that connection writes a row, sees no error, and acknowledges a message. The row is in a
//! transaction without an owner, and is rolled back with it. In Rust a future can be dropped at every `await`, so every
//! request to a server whose reply changes what we believe has this window.
//!
//! # Guarantee
//!
//! A future that was polled once through [`complete`] is run to its end: by its caller, or, if the caller is dropped,
//! by a task of its own. Its result is then dropped, and with it whatever the result's `Drop` cleans up.
//!
//! # Not guaranteed
//!
//! An end in time: bound the future itself with a timeout *inside* of `complete`. An end if the process dies: what must
//! survive that belongs in a database. A result for the caller: after a drop the outcome is unknown, as after any lost
//! reply.
//!
//! # States
//!
//! Not begun (dropping it does nothing), begun (dropping it moves the rest into a task), ended.
//!
//! # Failure modes
//!
//! The runtime shuts down: its tasks are dropped where they are, so the rest is not run. A future that never ends holds
//! what it has taken for ever. Abandoned work still costs resources: wrap the one exchange with the server that must
//! not be cut in half, never a whole request.
//!
//! ```
//! use holdfast::completion::complete;
//! use tokio::sync::oneshot;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let (reply, replied) = oneshot::channel::<&str>();
//! let (told, hears) = oneshot::channel();
//! let exchange = complete(async move {
//!     let reply = replied.await.expect("a reply");
//!     told.send(reply).expect("a listener");
//! });
//! // The caller gives up before the server replies.
//! tokio::select! { biased; () = exchange => unreachable!(), () = std::future::ready(()) => {} }
//!
//! reply.send("ready for query").expect("the exchange still waits for its reply");
//! assert_eq!(hears.await, Ok("ready for query"));
//! # }
//! ```
//!
//! # Copying this
//!
//! This file, and the crate `tokio` (`rt`). The usual alternative is `tokio::spawn(future).await`, which moves *every*
//! call to another task; this one spawns only when the caller is dropped.
//!
//! Source: "Cancelling async Rust", Rain Paharia, RustConf 2025; tokio's documentation on cancellation safety in
//! `select!`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// A future that is run to its end, even if its caller stops waiting for it. Made by [`complete`].
#[must_use = "a future that is never polled does nothing"]
#[derive(Debug)]
pub struct Complete<F: Future + Send + 'static> {
    /// The future. Taken when it has ended, or when a task of its own takes over.
    rest: Option<Pin<Box<F>>>,
    /// The runtime of the caller, which may differ from that of the thread that drops it.
    runtime: Handle,
    /// Set by the first poll. Before that no request was sent, so there is nothing to end.
    begun: bool,
}

/// Runs `future` to its end once it was polled, even if the returned future is dropped before that.
///
/// Cancel safe: a drop loses the result and cuts nothing in half. The rest runs in a task without the caller's span;
/// instrument `future` itself.
///
/// # Panics
///
/// If called outside of a tokio runtime.
pub fn complete<F: Future + Send + 'static>(future: F) -> Complete<F> {
    Complete {
        rest: Some(Box::pin(future)),
        runtime: Handle::current(),
        begun: false,
    }
}

impl<F: Future + Send + 'static> Future for Complete<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.begun = true;
        let rest = self.rest.as_mut().expect("it is not polled after its end");
        let polled = rest.as_mut().poll(context);
        if polled.is_ready() {
            self.rest = None;
        }
        polled
    }
}

impl<F: Future + Send + 'static> Drop for Complete<F> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take_if(|_| self.begun) {
            // The future may drop values that need a runtime, even if the runtime refuses the task.
            let _context = self.runtime.enter();
            self.runtime.spawn(async move {
                rest.await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use tokio::{sync::Notify, task::yield_now};

    use super::*;

    /// Returns a future that ends once `go` is notified, and then sets `ended`.
    fn exchange(go: &Arc<Notify>, ended: &Arc<AtomicBool>) -> impl Future<Output = u8> + use<> {
        let (go, ended) = (Arc::clone(go), Arc::clone(ended));
        async move {
            go.notified().await;
            ended.store(true, Ordering::SeqCst);
            7
        }
    }

    async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
    }

    #[tokio::test]
    async fn the_caller_gets_the_result_if_it_waits() {
        let (go, ended) = (Arc::new(Notify::new()), Arc::default());
        go.notify_one();
        assert_eq!(complete(exchange(&go, &ended)).await, 7);
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_dropped_call_is_run_to_its_end() {
        let (go, ended) = (Arc::new(Notify::new()), Arc::default());
        let mut call = complete(exchange(&go, &ended));
        assert!(poll_once(&mut call).await.is_pending());
        drop(call);
        go.notify_one();
        while !ended.load(Ordering::SeqCst) {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_call_that_never_began_is_not_begun_by_its_drop() {
        let (go, ended) = (Arc::new(Notify::new()), Arc::default());
        drop(complete(exchange(&go, &ended)));
        assert_eq!(
            Arc::strong_count(&go),
            1,
            "the future is gone, not in a task"
        );
    }

    #[test]
    fn the_rest_runs_on_the_callers_runtime_wherever_it_is_dropped() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .expect("a runtime");
        let (go, ended) = (Arc::new(Notify::new()), Arc::default());
        let mut call = {
            let _context = runtime.enter();
            complete(exchange(&go, &ended))
        };
        assert!(runtime.block_on(poll_once(&mut call)).is_pending());
        // This thread has no runtime.
        drop(call);
        go.notify_one();
        while !ended.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_drop_after_the_runtimes_end_is_quiet() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let (go, ended) = (Arc::new(Notify::new()), Arc::default());
        let mut call = {
            let _context = runtime.enter();
            complete(exchange(&go, &ended))
        };
        assert!(runtime.block_on(poll_once(&mut call)).is_pending());
        drop(runtime);
        drop(call);
        assert!(!ended.load(Ordering::SeqCst));
        assert_eq!(Arc::strong_count(&go), 1);
    }
}
