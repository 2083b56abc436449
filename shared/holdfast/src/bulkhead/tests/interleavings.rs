//! Every order in which threads can take, free and wait for places, tried by loom.
//!
//! Loom needs its own atomics and locks in place of std's. So `places.rs` is compiled here once more, over those. That
//! makes it an ordinary test: `cargo test -p holdfast bulkhead::tests::interleavings`.

use std::{
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use loom::thread;
use places::{NoRoom, Places, Taken, Wait};

mod sync {
    pub(super) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    };
    pub(super) use std::sync::PoisonError;

    loom::thread_local! {
        static NUMBER: std::cell::Cell<usize> = std::cell::Cell::new(0);
    }

    /// Returns the number that the test has set: all of loom's threads run on one thread of the system.
    pub(super) fn thread_number() -> usize {
        NUMBER.with(std::cell::Cell::get)
    }

    pub(super) fn be_thread(number: usize) {
        NUMBER.with(|mine| mine.set(number));
    }
}

#[expect(clippy::duplicate_mod, reason = "see above")]
#[path = "../places.rs"]
mod places;

/// A waker that counts its wakes.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn is(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

fn poll<'a>(wait: Pin<&mut Wait<'a>>, woken: &Arc<Woken>) -> Poll<Result<Taken<'a>, NoRoom>> {
    wait.poll(&mut Context::from_waker(&Waker::from(Arc::clone(woken))))
}

fn places(count: usize) -> Arc<Places> {
    Arc::new(Places::new(count))
}

/// Runs `work` on a thread with this number, by which it also chooses its first stripe.
fn on_thread<T: 'static>(
    number: usize,
    places: &Arc<Places>,
    work: impl FnOnce(&Places) -> T + 'static,
) -> thread::JoinHandle<T> {
    let places = Arc::clone(places);
    thread::spawn(move || {
        sync::be_thread(number);
        work(&places)
    })
}

fn join<T>(handle: thread::JoinHandle<T>) -> T {
    handle.join().expect("no thread panics")
}

/// Asserts that exactly `count` places are free, and that no stripe is marked.
fn all_are_free(places: &Places, count: usize) {
    assert_eq!(places.free_and_waiting(), (count, 0));
    let taken: Vec<_> = (0..count).map_while(|_| places.try_take()).collect();
    assert_eq!(taken.len(), count);
    assert!(places.try_take().is_none());
}

#[test]
fn a_place_is_taken_by_one_call_at_a_time() {
    // Two threads for one place, and for two places.
    for count in [1, 2] {
        loom::model(move || {
            let places = places(count);
            let held = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let call = |held: Arc<loom::sync::atomic::AtomicUsize>| {
                move |places: &Places| {
                    let taken = places.try_take();
                    if taken.is_some() {
                        assert!(held.fetch_add(1, Ordering::SeqCst) < count);
                        held.fetch_sub(1, Ordering::SeqCst);
                    }
                    taken.is_some()
                }
            };
            let first = on_thread(0, &places, call(Arc::clone(&held)));
            let second = on_thread(1, &places, call(held));
            let calls = [join(first), join(second)];
            assert!(calls.contains(&true) && (count == 1 || calls == [true, true]));
            all_are_free(&places, count);
        });
    }
}

#[test]
fn waiting_call_gets_a_freed_place() {
    loom::model(|| {
        let places = places(2);
        let (first, second) = (places.try_take(), places.try_take());
        let waits = on_thread(1, &places, |places| {
            let woken = Arc::<Woken>::default();
            let mut wait = Box::pin(places.wait(1));
            let mut answer = poll(wait.as_mut(), &woken);
            while answer.is_pending() {
                // Poll again only after a wake: a lost wake is a deadlock, which loom finds.
                while !woken.is() {
                    thread::yield_now();
                }
                answer = poll(wait.as_mut(), &woken);
            }
            assert!(matches!(answer, Poll::Ready(Ok(_))));
        });
        drop(first);
        drop(second);
        join(waits);
        all_are_free(&places, 2);
    });
}

#[test]
fn dropped_wait_takes_no_place() {
    loom::model(|| {
        let places = places(1);
        let held = places.try_take();
        let goes = on_thread(1, &places, |places| {
            let woken = Arc::<Woken>::default();
            let mut wait = pin!(places.wait(1));
            drop(poll(wait.as_mut(), &woken));
        });
        drop(held);
        join(goes);
        all_are_free(&places, 1);
    });
}

#[test]
fn dropped_wait_passes_its_place_on() {
    loom::model(|| {
        let places = places(1);
        let held = places.try_take();
        let (goes_woken, stays_woken) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let mut goes = Box::pin(places.wait(2));
        let mut stays = Box::pin(places.wait(2));
        assert!(poll(goes.as_mut(), &goes_woken).is_pending());
        assert!(poll(stays.as_mut(), &stays_woken).is_pending());
        // The place is freed and given to the first wait, which is dropped meanwhile.
        let comes = on_thread(1, &places, |places| places.try_take().is_some());
        drop(held);
        drop(goes);
        assert!(!join(comes), "a waiting call comes first");
        assert!(stays_woken.is());
        assert!(matches!(
            poll(stays.as_mut(), &stays_woken),
            Poll::Ready(Ok(_))
        ));
        all_are_free(&places, 1);
    });
}

#[test]
fn no_more_calls_wait_than_permitted() {
    loom::model(|| {
        let places = places(1);
        let held = places.try_take();
        let wait = |places: &Places| {
            let woken = Arc::<Woken>::default();
            let mut wait = pin!(places.wait(1));
            let answer = poll(wait.as_mut(), &woken);
            match answer {
                Poll::Pending => 0,
                Poll::Ready(Err(NoRoom)) => 1,
                Poll::Ready(Ok(_)) => 2,
            }
        };
        let first = on_thread(0, &places, wait);
        let second = on_thread(1, &places, wait);
        let (first, second) = (join(first), join(second));
        // No place was freed: both waited, one after the other, or there was no room for one of them.
        assert!(first < 2 && second < 2 && first + second < 2);
        drop(held);
        all_are_free(&places, 1);
    });
}
