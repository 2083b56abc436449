//! The cost of each pattern around a call that succeeds.

mod allocations;
mod breakers;
mod measure;
mod pipelines;

use criterion::{Criterion, criterion_group, criterion_main};

use self::{
    breakers::{CONSECUTIVE, RATE, SLOW_CALL_RATE},
    measure::Group,
};

fn breaker(criterion: &mut Criterion) {
    let mut group = Group::new(criterion, "breaker");
    group.call("recloser", breakers::recloser());
    group.call("failsafe", breakers::failsafe());
    group.call("holdfast-consecutive", breakers::holdfast(CONSECUTIVE));
    group.call("holdfast-rate", breakers::holdfast(RATE));
    group.call(
        "holdfast-slow-call-rate",
        breakers::holdfast(SLOW_CALL_RATE),
    );
}

fn breaker_awaited(criterion: &mut Criterion) {
    let mut group = Group::new(criterion, "breaker-awaited");
    group.awaited("recloser", breakers::recloser_awaited());
    group.awaited("failsafe", breakers::failsafe_awaited());
    group.awaited("tower-resilience", breakers::tower_resilience());
    group.awaited(
        "holdfast-consecutive",
        breakers::holdfast_awaited(CONSECUTIVE),
    );
    group.awaited("holdfast-rate", breakers::holdfast_awaited(RATE));
    group.awaited(
        "holdfast-slow-call-rate",
        breakers::holdfast_awaited(SLOW_CALL_RATE),
    );
}

fn pipeline(criterion: &mut Criterion) {
    let mut group = Group::new(criterion, "pipeline");
    group.awaited("nothing", pipelines::nothing());
    group.awaited("tower", pipelines::tower());
    group.awaited("holdfast-without-clock", pipelines::without_clock());
    group.awaited("holdfast-with-clock", pipelines::with_clock());
}

criterion_group!(benches, breaker, breaker_awaited, pipeline);
criterion_main!(benches);
