//! A dependency that is cut off.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::failpoint::{NotCompiledIn, compiled_in};

/// The switch that cuts a dependency off: while it is on, each call fails at once. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CutOff(Arc<AtomicBool>);

impl CutOff {
    /// Cuts the dependency off, or ends that. Fails in a build without failpoints.
    pub fn set(&self, cut_off: bool) -> Result<(), NotCompiledIn> {
        compiled_in()?;
        self.0.store(cut_off, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether the dependency is cut off.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes the call, or fails with `error` without making it. Cancel safe if the call is.
    pub async fn around<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        error: impl FnOnce() -> E,
    ) -> Result<T, E> {
        if self.is_on() {
            return Err(error());
        }
        call.await
    }
}
