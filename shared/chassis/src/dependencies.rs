//! The dependencies of a service, each behind a [`Pipeline`]: shown to operators, and switched by them, and cut off by
//! drills.
//!
//! A switch holds in this process, until it ends; other replicas have their own.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::{HttpResponse, get, post, web};
use holdfast::{
    bulkhead::Bulkhead,
    chaos::CutOff,
    circuit_breaker::{CircuitBreaker, Class, Classify, Config, Growth, Policy, State},
    deadline::{Deadline, Exceeded},
    failpoint,
    pipeline::{self, Attempt, Pipeline},
    retry::{Budget, GaveUp, Retryable},
};
use metrics::{Unit, describe_counter, describe_gauge, gauge};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::ToSchema;

use crate::{
    client,
    http::{JsonBody, Problem},
    identity::Operator,
    openapi::Routes,
};

/// The longest that a breaker stays open before a probe, and so the longest that a call waits for a dependency that is
/// available again.
pub const LONGEST_OPEN: Duration = Duration::from_secs(10);

/// Returns the settings of a circuit breaker that opens as `policy` says, for `open_for`; twice as long after each
/// failed probe, up to [`LONGEST_OPEN`].
pub fn breaker(policy: Policy, open_for: Duration) -> Config {
    let growth = Growth {
        multiplier: 2.0,
        maximum: open_for.max(LONGEST_OPEN),
    };
    Config {
        policy,
        open_for,
        growth: Some(growth),
        ..Config::default()
    }
}

/// A dependency: the pipeline through which it is called, and its switches. Clones share them.
#[derive(Clone, Debug)]
pub struct Dependency {
    pipeline: Pipeline,
    /// Set by drills.
    cut_off: CutOff,
    fallback: Arc<AtomicBool>,
}

impl Dependency {
    /// Returns a dependency that is called through `pipeline`.
    pub fn new(pipeline: Pipeline) -> Self {
        Self {
            pipeline,
            cut_off: CutOff::default(),
            fallback: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Calls the dependency as [`Pipeline::run`] does. While a drill has cut it off, each attempt fails at once, as if
    /// its time were over. Cancel safe if `op` is.
    pub async fn run<T, E, F>(
        &self,
        deadline: Deadline,
        op: impl Fn(Attempt) -> F,
    ) -> Result<T, GaveUp<pipeline::Error<E>>>
    where
        E: Retryable + Classify + From<Exceeded>,
        F: Future<Output = Result<T, E>>,
    {
        let op = |attempt| self.cut_off.around(op(attempt), || Exceeded.into());
        self.pipeline.run(deadline, op).await
    }

    /// Returns true if the service may respond without the dependency.
    pub fn may_fall_back(&self) -> bool {
        self.fallback.load(Ordering::Relaxed)
    }

    /// Returns how many of `wanted` calls are worth making now, for a worker that claims work for the dependency. While
    /// the breaker is open that is zero: the work would be claimed only to be rejected. After that it is at most the
    /// number of probes that the breaker permits.
    pub fn worth_asking(&self, wanted: i64) -> i64 {
        let Some(breaker) = self.pipeline.get_breaker() else {
            return wanted;
        };
        let now = breaker.snapshot();
        match now.state {
            State::Closed | State::ForcedClosed => wanted,
            State::ForcedOpen => 0,
            State::Open if now.retry_after.is_some_and(|after| !after.is_zero()) => 0,
            State::Open | State::HalfOpen => {
                wanted.min(breaker.config().half_open.permitted_calls.into())
            }
        }
    }

    fn name(&self) -> &str {
        self.pipeline.name()
    }
}

/// All dependencies of a service.
#[derive(Clone)]
pub(crate) struct Dependencies {
    all: Arc<[Dependency]>,
    /// Set if drills may cut them off.
    demo: bool,
}

impl Dependencies {
    pub(crate) fn new(all: Vec<Dependency>, demo: bool) -> Self {
        Self {
            all: all.into(),
            demo,
        }
    }

    fn find(&self, name: &str) -> Result<&Dependency, Problem> {
        let known = self.all.iter().find(|one| one.name() == name);
        known.ok_or_else(|| {
            let names: Vec<&str> = self.all.iter().map(Dependency::name).collect();
            Problem::not_found(format!(
                "this service has no dependency {name:?}; it has {}",
                names.join(", ")
            ))
        })
    }

    /// Sets the gauges of all dependencies.
    pub(crate) fn publish(&self) {
        for Dependency { pipeline, .. } in self.all.iter() {
            if let Some(breaker) = pipeline.get_breaker() {
                breaker.publish();
            }
            if let Some(bulkhead) = pipeline.get_bulkhead() {
                bulkhead.publish();
            }
            if let Some(budget) = pipeline.get_budget() {
                let name = pipeline.name().to_owned();
                gauge!("retry_budget_available", "name" => name).set(budget.available());
            }
        }
    }
}

/// The class of a failed call, by what it shows about the health of the service that was called.
impl Classify for client::Error {
    fn class(&self) -> Class {
        match self {
            // The service is alive, and says that the request is wrong.
            Self::Refused { .. } => Class::Success,
            // The service is alive, and says that we call too often: the retry waits, and the breaker ignores it.
            Self::Unavailable { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => {
                Class::Ignored
            }
            Self::Unavailable { .. } | Self::Unreachable { .. } | Self::Late(_) => Class::Failure,
            // The fault is ours.
            Self::Token(_) => Class::Ignored,
        }
    }
}

/// Describes each metric, for readers of `/metrics`. A circuit breaker describes its own.
pub(crate) fn describe_metrics() {
    describe_gauge!(
        "bulkhead_in_use",
        Unit::Count,
        "Calls to a dependency that are under way"
    );
    describe_gauge!(
        "bulkhead_waiting",
        Unit::Count,
        "Calls that wait for a place in the bulkhead before a dependency"
    );
    describe_counter!(
        "bulkhead_rejected_total",
        Unit::Count,
        "Calls that found the bulkhead before a dependency full: too many waited already (queue), or no place became free \
         in time (wait)"
    );
    describe_counter!(
        "retries_total",
        Unit::Count,
        "Calls to a dependency that repeat one which failed"
    );
    describe_gauge!(
        "retry_budget_available",
        Unit::Count,
        "Retries that may be made before the next success pays for more"
    );
}

pub(crate) fn routes(routes: &mut Routes) {
    routes.service(list).service(switch);
}

/// A dependency, as this process sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dependency)]
struct DependencyView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<BreakerView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bulkhead: Option<BulkheadView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_budget: Option<BudgetView>,
    /// True if a drill has cut it off.
    cut_off: bool,
    /// True if this service answers without it, where it can.
    fallback: bool,
}

/// A circuit breaker. The counts are those since this process began.
#[derive(Debug, Serialize, ToSchema)]
struct BreakerView {
    /// closed, open, half_open, forced_open or forced_closed.
    state: &'static str,
    /// The time until it permits calls again, in milliseconds, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    succeeded: u64,
    /// Calls that succeeded, but too slowly.
    slow: u64,
    failed: u64,
    ignored: u64,
    cancelled: u64,
    rejected: u64,
}

/// A bulkhead, with its bounds and its use.
#[derive(Debug, Serialize, ToSchema)]
struct BulkheadView {
    enabled: bool,
    in_use: usize,
    max_concurrent: usize,
    waiting: usize,
    max_waiting: usize,
}

/// A retry budget.
#[derive(Debug, Serialize, ToSchema)]
struct BudgetView {
    enabled: bool,
    /// The retries that may be made now.
    available: f64,
}

/// The switches of a dependency. A switch that is left out stays as it is.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Switches {
    breaker: Option<BreakerSwitch>,
    bulkhead: Option<OnOff>,
    retry_budget: Option<OnOff>,
    /// On: this service answers without the dependency, where it can.
    fallback: Option<OnOff>,
    /// On: every call fails at once, as if its deadline had passed. For drills, with `DEMO_MODE` alone.
    cut_off: Option<OnOff>,
}

/// The mode of a circuit breaker.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BreakerSwitch {
    /// Rejects every call.
    ForceOpen,
    /// Permits every call.
    ForceClosed,
    /// Decides by itself, beginning with closed.
    Automatic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OnOff {
    On,
    Off,
}

impl From<&Dependency> for DependencyView {
    fn from(dependency: &Dependency) -> Self {
        let pipeline = &dependency.pipeline;
        Self {
            name: dependency.name().to_owned(),
            breaker: pipeline.get_breaker().map(BreakerView::from),
            bulkhead: pipeline.get_bulkhead().map(BulkheadView::from),
            retry_budget: pipeline.get_budget().map(BudgetView::from),
            cut_off: dependency.cut_off.is_on(),
            fallback: dependency.may_fall_back(),
        }
    }
}

impl From<&CircuitBreaker> for BreakerView {
    fn from(breaker: &CircuitBreaker) -> Self {
        let now = breaker.snapshot();
        Self {
            state: now.state.as_str(),
            retry_after_ms: now
                .retry_after
                .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            succeeded: now.calls.succeeded,
            slow: now.calls.slow,
            failed: now.calls.failed,
            ignored: now.calls.ignored,
            cancelled: now.calls.cancelled,
            rejected: now.calls.rejected,
        }
    }
}

impl From<&Bulkhead> for BulkheadView {
    fn from(bulkhead: &Bulkhead) -> Self {
        let now = bulkhead.snapshot();
        Self {
            enabled: now.enabled,
            in_use: now.in_use,
            max_concurrent: now.limits.max_concurrent,
            waiting: now.waiting,
            max_waiting: now.limits.max_waiting,
        }
    }
}

impl From<&Budget> for BudgetView {
    fn from(budget: &Budget) -> Self {
        Self {
            enabled: budget.is_enabled(),
            available: budget.available(),
        }
    }
}

/// Lists the dependencies of this service, with the state of their breakers, bulkheads and retry budgets.
#[utoipa::path(tag = "operator", operation_id = "list_dependencies", responses((status = 200, body = Vec<DependencyView>)))]
#[get("/operator/dependencies")]
async fn list(_: Operator, dependencies: web::Data<Dependencies>) -> HttpResponse {
    let all: Vec<DependencyView> = dependencies.all.iter().map(DependencyView::from).collect();
    HttpResponse::Ok().json(all)
}

/// Switches the breaker, the bulkhead, the retry budget or the fallback of a dependency.
#[utoipa::path(
    tag = "operator",
    operation_id = "switch_dependency",
    params(("name" = String, Path, description = "The dependency's name.")),
    request_body = Switches,
    responses(
        (status = 200, body = DependencyView),
        (status = 501, description = "This build has no failpoints, so nothing can be cut off."),
    ),
)]
#[post("/operator/dependencies/{name}")]
async fn switch(
    Operator(operator): Operator,
    dependencies: web::Data<Dependencies>,
    name: web::Path<String>,
    JsonBody(switches): JsonBody<Switches>,
) -> Result<HttpResponse, Problem> {
    let dependency = dependencies.find(&name)?;
    let pipeline = &dependency.pipeline;
    let Switches {
        breaker,
        bulkhead,
        retry_budget,
        fallback,
        cut_off,
    } = switches;
    if cut_off.is_some() && !dependencies.demo {
        return Err(Problem::invalid_field("cut_off", "is for DEMO_MODE alone"));
    }
    if cut_off == Some(OnOff::On) {
        failpoint::compiled_in().map_err(|error| Problem::not_implemented(error.to_string()))?;
    }
    // Each switch is checked before any is set: all of them, or none.
    let none = |what: &str| {
        Problem::invalid_field(what, format!("there is none before {}", pipeline.name()))
    };
    let breaker = with_its_part(breaker, pipeline.get_breaker(), || none("breaker"))?;
    let bulkhead = with_its_part(bulkhead, pipeline.get_bulkhead(), || none("bulkhead"))?;
    let budget = with_its_part(retry_budget, pipeline.get_budget(), || none("retry_budget"))?;
    match breaker {
        Some((breaker, BreakerSwitch::ForceOpen)) => breaker.force_open(),
        Some((breaker, BreakerSwitch::ForceClosed)) => breaker.force_closed(),
        Some((breaker, BreakerSwitch::Automatic)) => breaker.reset(),
        None => {}
    }
    if let Some((bulkhead, to)) = bulkhead {
        bulkhead.set_enabled(to == OnOff::On);
    }
    if let Some((budget, to)) = budget {
        budget.set_enabled(to == OnOff::On);
    }
    if let Some(to) = fallback {
        dependency
            .fallback
            .store(to == OnOff::On, Ordering::Relaxed);
    }
    if let Some(to) = cut_off {
        // Without failpoints nothing is cut off, so there is nothing to end.
        let _ = dependency.cut_off.set(to == OnOff::On);
    }
    warn!(dependency = pipeline.name(), ?switches, operator = %operator.id, "switched");
    Ok(HttpResponse::Ok().json(DependencyView::from(dependency)))
}

/// Returns a switch that is given, with the part that it is for. Fails if there is no such part.
fn with_its_part<S, P>(
    given: Option<S>,
    part: Option<P>,
    none: impl FnOnce() -> Problem,
) -> Result<Option<(P, S)>, Problem> {
    match (part, given) {
        (_, None) => Ok(None),
        (Some(part), Some(given)) => Ok(Some((part, given))),
        (None, Some(_)) => Err(none()),
    }
}
