//! A bulkhead for each endpoint, which bounds the webhooks that are sent to it at a time. The claim knows the places,
//! and leaves webhooks without one unclaimed, so none has to be put back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

/// The places of all endpoints.
#[derive(Clone)]
pub(super) struct Places {
    of_one_endpoint: usize,
    /// The number of places taken, for endpoints with at least one.
    taken: Arc<Mutex<HashMap<Uuid, usize>>>,
}

/// One webhook's place, which is free again when this is dropped.
pub(super) struct Place {
    endpoint: Uuid,
    places: Places,
}

impl Places {
    pub(super) fn new(of_one_endpoint: usize) -> Self {
        Self {
            of_one_endpoint,
            taken: Arc::default(),
        }
    }

    pub(super) fn of_one_endpoint(&self) -> i64 {
        i64::try_from(self.of_one_endpoint).unwrap_or(i64::MAX)
    }

    /// Returns the number of places taken, for endpoints with at least one.
    pub(super) fn taken(&self) -> Vec<(Uuid, i64)> {
        let taken = self.lock();
        let counts = taken
            .iter()
            .map(|(endpoint, n)| (*endpoint, i64::try_from(*n).unwrap_or(i64::MAX)));
        counts.collect()
    }

    pub(super) fn take(&self, endpoint: Uuid) -> Place {
        *self.lock().entry(endpoint).or_default() += 1;
        Place {
            endpoint,
            places: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Frees the place. Returns true if the endpoint was full.
    pub(super) fn leave(self) -> bool {
        let taken = self.places.lock().get(&self.endpoint).copied();
        taken.is_some_and(|taken| taken >= self.places.of_one_endpoint)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(n) = taken.get_mut(&self.endpoint) {
            *n -= 1;
            if *n == 0 {
                taken.remove(&self.endpoint);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_full_until_one_place_is_freed() {
        let places = Places::new(2);
        let (busy, idle) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (first, second) = (places.take(busy), places.take(busy));
        let other = places.take(idle);
        let mut taken = places.taken();
        taken.sort_unstable();
        assert_eq!(taken, [(busy, 2), (idle, 1)]);
        assert!(first.leave(), "it was full");
        assert!(!second.leave());
        drop(other);
        assert!(places.taken().is_empty());
    }
}
