//! Places, and the line of those who wait for one.
//!
//! Were the free places one number, every call on every core would write to it twice, and cores that write to the same memory
//! wait for each other. So they lie in a few stripes. A thread takes from its own, and from the others when that is empty;
//! only who finds none at all takes the lock around the line.
//!
//! Whoever waits has marked each stripe. The mark and the places are one word, so for each stripe either the mark came first,
//! and who gives a place back there sees that somebody waits for it; or the place came first, and who waits sees it.
//!
//! `tests/interleavings.rs` compiles this file a second time, over loom's types in place of std's.

use std::{
    collections::BTreeMap,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError, thread_number};

/// How many threads take places without meeting another. More of them share. A power of two.
const STRIPES: usize = 8;

/// What a place counts in a stripe's word.
const PLACE: usize = 0b10;
/// In a stripe's word: somebody waits.
const MARK: usize = 0b01;

/// Two cache lines apart, as processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(AtomicUsize);

#[derive(Debug)]
pub(super) struct Places {
    /// As many as a power of two.
    stripes: Box<[Stripe]>,
    line: Mutex<Line>,
}

/// Those who wait. The stripes are marked while there is somebody.
#[derive(Debug, Default)]
struct Line {
    /// The next one's ticket.
    next: u64,
    waiting: BTreeMap<u64, Waker>,
    /// Who has a place, and of which stripe, and has not come for it yet.
    called: BTreeMap<u64, usize>,
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    places: &'a Places,
    stripe: usize,
}

/// As many wait already as may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// Waits for a place. Cancel safe: who is dropped leaves the line, or passes on the place that was theirs.
#[must_use]
#[derive(Debug)]
pub(super) struct Wait<'a> {
    places: &'a Places,
    /// How many may wait.
    most: usize,
    /// While in the line.
    ticket: Option<u64>,
}

/// How one got on at the line.
enum Entered<'a> {
    Taken(Taken<'a>),
    Waits(u64),
}

impl Stripe {
    /// Takes a place, unless somebody waits for it.
    #[inline]
    fn take(&self) -> bool {
        self.take_if(|word| word >= PLACE && word & MARK == 0)
    }

    /// Takes a place for somebody whose turn it is.
    fn take_in_turn(&self) -> bool {
        self.take_if(|word| word >= PLACE)
    }

    #[inline]
    fn take_if(&self, may: impl Fn(usize) -> bool) -> bool {
        let less = |word| may(word).then(|| word - PLACE);
        self.0
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, less)
            .is_ok()
    }
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let stripes = 1 << count.min(STRIPES).ilog2();
        let share = |stripe| count / stripes + usize::from(stripe < count % stripes);
        Self {
            stripes: (0..stripes)
                .map(|stripe| Stripe(AtomicUsize::new(share(stripe) * PLACE)))
                .collect(),
            line: Mutex::default(),
        }
    }

    /// Takes a place, if one is free and nobody waits. One that is given back at this moment it may miss.
    #[inline]
    pub(super) fn try_take(&self) -> Option<Taken<'_>> {
        self.take(Stripe::take)
    }

    /// Takes a place as soon as one is free, first come first served, if fewer than `most` wait.
    pub(super) fn wait(&self, most: usize) -> Wait<'_> {
        Wait {
            places: self,
            most,
            ticket: None,
        }
    }

    /// How many are free, and how many wait. Exact while nothing moves.
    pub(super) fn free_and_waiting(&self) -> (usize, usize) {
        let free = |Stripe(word): &Stripe| word.load(Ordering::Relaxed) / PLACE;
        let waiting = self.line().waiting.len();
        (self.stripes.iter().map(free).sum(), waiting)
    }

    /// Takes a place from this thread's stripe, or else from the next that has one.
    #[inline]
    fn take(&self, from: impl Fn(&Stripe) -> bool) -> Option<Taken<'_>> {
        let (first, mask) = (thread_number(), self.stripes.len() - 1);
        let mut stripes = (0..=mask).map(|step| first.wrapping_add(step) & mask);
        let stripe = stripes.find(|stripe| from(&self.stripes[*stripe]))?;
        Some(Taken {
            places: self,
            stripe,
        })
    }

    /// Takes a place, or gets into line.
    fn enter(&self, most: usize, waker: Waker) -> Result<Entered<'_>, NoRoom> {
        let mut line = self.line();
        if line.waiting.is_empty() {
            self.mark();
            if let Some(taken) = self.take(Stripe::take_in_turn) {
                self.unmark();
                return Ok(Entered::Taken(taken));
            }
        }
        if line.waiting.len() >= most {
            if line.waiting.is_empty() {
                self.unmark();
            }
            return Err(NoRoom);
        }
        let ticket = line.next;
        line.next += 1;
        line.waiting.insert(ticket, waker);
        Ok(Entered::Waits(ticket))
    }

    #[inline]
    fn give_back(&self, stripe: usize) {
        let Stripe(word) = &self.stripes[stripe];
        if word.fetch_add(PLACE, Ordering::AcqRel) & MARK != 0 {
            self.call_next();
        }
    }

    /// Gives free places to those who wait.
    #[cold]
    fn call_next(&self) {
        loop {
            let mut line = self.line();
            let Some((&ticket, _)) = line.waiting.first_key_value() else {
                return;
            };
            let Some(taken) = self.take(Stripe::take_in_turn) else {
                return;
            };
            line.called.insert(ticket, taken.stripe);
            mem::forget(taken); // theirs now
            let waker = self.leave(&mut line, ticket);
            // Not under the lock: it may come back here.
            drop(line);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// One less waits.
    fn leave(&self, line: &mut Line, ticket: u64) -> Option<Waker> {
        let waker = line.waiting.remove(&ticket)?;
        if line.waiting.is_empty() {
            self.unmark();
        }
        Some(waker)
    }

    fn mark(&self) {
        for Stripe(word) in &self.stripes {
            word.fetch_or(MARK, Ordering::AcqRel);
        }
    }

    fn unmark(&self) {
        for Stripe(word) in &self.stripes {
            word.fetch_and(!MARK, Ordering::AcqRel);
        }
    }

    /// Nothing that is done under the lock can panic half way.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    #[inline]
    fn drop(&mut self) {
        self.places.give_back(self.stripe);
    }
}

impl<'a> Future for Wait<'a> {
    type Output = Result<Taken<'a>, NoRoom>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let places = self.places;
        // Not under the lock: it may come back here.
        let waker = context.waker().clone();
        let Some(ticket) = self.ticket else {
            return match places.enter(self.most, waker) {
                Ok(Entered::Taken(taken)) => Poll::Ready(Ok(taken)),
                Ok(Entered::Waits(ticket)) => {
                    self.ticket = Some(ticket);
                    Poll::Pending
                }
                Err(NoRoom) => Poll::Ready(Err(NoRoom)),
            };
        };
        let mut line = places.line();
        if let Some(stripe) = line.called.remove(&ticket) {
            self.ticket = None;
            return Poll::Ready(Ok(Taken { places, stripe }));
        }
        let before = line.waiting.insert(ticket, waker);
        // Not under the lock: dropping it may come back here.
        drop(line);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else {
            return;
        };
        let mut line = self.places.line();
        let called = line.called.remove(&ticket);
        let waker = self.places.leave(&mut line, ticket);
        // Not under the lock: both may come back here.
        drop(line);
        drop(waker);
        if let Some(stripe) = called {
            self.places.give_back(stripe);
        }
    }
}
