//! The machine, shared by threads: a lock around it, and one atomic word before the lock, so that a healthy call takes
//! no lock.
//!
//! Every decision is the machine's. After each one, still under the lock, [`Shared`] publishes in the word all that a
//! caller needs to leave the lock alone: the generation, the state, and whether a success would change anything. So the
//! word never differs from the machine, and a caller that reads an old word counts as one that came a moment earlier.
//!
//! `tests/interleavings.rs` compiles this file a second time, over loom's types in place of std's.

use tokio::time::Instant;

use super::{
    event::State,
    machine::{Change, Machine, Refused},
    sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError},
    verdict::Verdict,
};

/// The state that callers read without the lock: bits 0 to 2 are the state, bit 3 is set if the machine is at rest, the
/// others are the generation (enough of them for a change per nanosecond over 36 years).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const AT_REST: u64 = 0b1000;

    fn of(machine: &Machine) -> Self {
        let at_rest = if machine.is_at_rest() {
            Self::AT_REST
        } else {
            0
        };
        Self(machine.generation() << 4 | at_rest | machine.state() as u64)
    }

    #[inline]
    fn state(self) -> State {
        // Words are made only by `of`, from a state's own number.
        State::ALL[(self.0 & 0b111) as usize]
    }

    #[inline]
    fn generation(self) -> u64 {
        self.0 >> 4
    }

    #[inline]
    fn is_at_rest(self) -> bool {
        self.0 & Self::AT_REST != 0
    }

    #[inline]
    fn admits_all(self) -> bool {
        matches!(self.state(), State::Closed | State::ForcedClosed)
    }
}

/// The admission of a call, with the word of that moment. Its holder must give [`Shared::record`] a verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(Word);

#[derive(Debug)]
pub(super) struct Shared {
    word: AtomicU64,
    machine: Mutex<Machine>,
}

impl Shared {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            word: AtomicU64::new(Word::of(&machine).0),
            machine: Mutex::new(machine),
        }
    }

    /// Admits a call or rejects it. The closed path is one load.
    #[inline]
    pub(super) fn acquire(
        &self,
        now: impl Fn() -> Instant,
        on_change: impl Fn(&Change),
    ) -> Result<Ticket, Refused> {
        let word = self.word();
        if word.admits_all() {
            return Ok(Ticket(word));
        }
        self.acquire_locked(now(), on_change)
    }

    #[cold]
    fn acquire_locked(&self, now: Instant, on_change: impl Fn(&Change)) -> Result<Ticket, Refused> {
        self.locked(on_change, |machine| {
            machine.acquire(now)?;
            Ok(Ticket(Word::of(machine)))
        })
    }

    /// Records the end of a call. On the closed path, with no failure to forget, this is one load.
    #[inline]
    pub(super) fn record(
        &self,
        Ticket(then): Ticket,
        verdict: Verdict,
        now: impl Fn() -> Instant,
        on_change: impl Fn(&Change),
    ) {
        let word = self.word();
        if word.generation() != then.generation() {
            // Generations only grow, so the verdict stays late.
            return;
        }
        match verdict {
            // A failure that is being recorded at this moment counts as later than this success.
            Verdict::Success { .. } if word.is_at_rest() => {}
            // Only a probe has a place to free.
            Verdict::Ignored | Verdict::Cancelled if word.state() != State::HalfOpen => {}
            _ => self.record_locked(then.generation(), verdict, now, on_change),
        }
    }

    // A function of its own, so that the closed path is short enough to be inlined.
    #[inline(never)]
    fn record_locked(
        &self,
        generation: u64,
        verdict: Verdict,
        now: impl Fn() -> Instant,
        on_change: impl Fn(&Change),
    ) {
        self.locked(on_change, |machine| {
            machine.record(generation, verdict, now);
        });
    }

    /// Returns the state as of the last call or command.
    pub(super) fn state(&self) -> State {
        self.word().state()
    }

    /// Runs `work` on the machine, publishes the new word, and passes every change to `on_change`.
    ///
    /// `on_change` runs under the lock, so that gauges and events keep the order of the changes. It must not block, nor
    /// call the breaker.
    pub(super) fn locked<T>(
        &self,
        on_change: impl Fn(&Change),
        work: impl FnOnce(&mut Machine) -> T,
    ) -> T {
        let mut machine = self.machine();
        let answer = work(&mut machine);
        self.word.store(Word::of(&machine).0, Ordering::Release);
        machine.take_changes().iter().for_each(on_change);
        answer
    }

    /// Locks the machine. After a panic under the lock it is still valid: only `on_change` can panic, and it comes
    /// last.
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }
}
