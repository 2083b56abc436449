//! Places, and the line of calls that wait for one.
//!
//! If the free places were one number, every call on every core would write to it twice, and cores that write to the
//! same memory wait for each other. So the places lie in a few stripes. A thread takes from its own stripe, and from
//! the others when that is empty; only a thread that finds no place takes the lock around the line.
//!
//! A call that waits has marked each stripe. The mark and the places are one word. So for each stripe either the mark
//! came first, and a thread that frees a place there sees that a call waits; or the place came first, and the waiting
//! call sees it.
//!
//! `tests/interleavings.rs` compiles this file a second time, over loom's types in place of std's.

use std::{
    collections::BTreeMap,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, PoisonError, thread_number};

/// The number of threads that take places without sharing. Further threads share. A power of two.
const STRIPES: usize = 8;

/// The value of one free place in a stripe's word.
const PLACE: usize = 0b10;
/// The bit of a stripe's word that is set while a call waits.
const MARK: usize = 0b01;

/// The free places of one stripe, and the mark. Two cache lines apart, because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(AtomicUsize);

#[derive(Debug)]
pub(super) struct Places {
    /// The stripes. Their number is a power of two.
    stripes: Box<[Stripe]>,
    line: Mutex<Line>,
}

/// The calls that wait. The stripes are marked while there is one.
#[derive(Debug, Default)]
struct Line {
    /// The ticket of the next call.
    next: u64,
    waiting: BTreeMap<u64, Waker>,
    /// The tickets that were given a place and have not polled since, with the place's stripe.
    called: BTreeMap<u64, usize>,
}

/// A place that is taken, until this is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    places: &'a Places,
    stripe: usize,
}

/// As many calls as permitted wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// A wait for a place. Cancel safe: a wait that is dropped leaves the line, or passes on the place that it was given.
#[must_use]
#[derive(Debug)]
pub(super) struct Wait<'a> {
    places: &'a Places,
    /// The number of calls that may wait.
    most: usize,
    /// Set while in the line.
    ticket: Option<u64>,
}

/// The result of entering the line.
enum Entered<'a> {
    Taken(Taken<'a>),
    Waits(u64),
}

impl Stripe {
    /// Takes a place, unless a call waits for it.
    #[inline]
    fn take(&self) -> bool {
        self.take_if(|word| word >= PLACE && word & MARK == 0)
    }

    /// Takes a place for a call whose turn it is.
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

    /// Takes a place, if one is free and no call waits. It may miss a place that is freed at this moment.
    #[inline]
    pub(super) fn try_take(&self) -> Option<Taken<'_>> {
        self.take(Stripe::take)
    }

    /// Takes a place as soon as one is free, first come first served, if fewer than `most` calls wait.
    pub(super) fn wait(&self, most: usize) -> Wait<'_> {
        Wait {
            places: self,
            most,
            ticket: None,
        }
    }

    /// Returns the numbers of free places and of waiting calls. Exact while nothing changes.
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

    /// Takes a place, or joins the line.
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

    /// Gives free places to waiting calls.
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
            mem::forget(taken); // it belongs to the ticket now
            let waker = self.leave(&mut line, ticket);
            // Wake without the lock: the waker may call this code.
            drop(line);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Removes a call from the line; unmarks the stripes after the last one.
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

    /// Locks the line. It is valid after a panic: no change under the lock can stop half way.
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
        // Cloned without the lock: the waker may call this code.
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
        // Dropped without the lock: the waker may call this code.
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
        // Both without the lock: they may call this code.
        drop(line);
        drop(waker);
        if let Some(stripe) = called {
            self.places.give_back(stripe);
        }
    }
}
