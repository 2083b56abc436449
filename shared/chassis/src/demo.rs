//! The faults that a demonstration may cause in a service: pause a queue, damage a message, crash or wait at a
//! failpoint, switch a feature off. For operators, and only with `DEMO_MODE=true`: without it these routes do not
//! exist.

mod faults;
mod switches;

use std::sync::Arc;

use actix_web::{HttpResponse, get, post, put, web};
use holdfast::{
    chaos, failpoint,
    messaging::{Controls, Publisher, retry_exchange},
    outbox::{Message, Outcome, Publisher as _},
};
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use faults::Faults;
pub use switches::Switch;

use crate::{
    http::{JsonBody, Problem},
    identity::Operator,
    openapi::Routes,
};

/// The failpoints of every service that sends and receives messages.
pub(crate) const MESSAGING: [&str; 4] = [
    "consumer.before_commit",
    "consumer.after_commit",
    "outbox.before_publish",
    "outbox.after_publish",
];

/// The state that the routes work on.
#[derive(Clone)]
pub(crate) struct DemoState {
    /// The switches of its queues, and its publisher; `None` in a service without messages.
    pub(crate) queues: Option<(Controls, Publisher)>,
    /// The failpoints at which it can be made to crash, or to wait.
    pub(crate) failpoints: Arc<[&'static str]>,
    /// The faults of its HTTP server.
    pub(crate) faults: Faults,
    /// The features that can be switched off.
    pub(crate) switches: Arc<[Switch]>,
    /// The id of this process, new at each start.
    pub(crate) process: Uuid,
}

impl DemoState {
    fn controls(&self, queue: &str) -> Result<(&Controls, &Publisher), Problem> {
        self.queues
            .as_ref()
            .filter(|(controls, _)| controls.queues().iter().any(|known| known == queue))
            .map(|(controls, publisher)| (controls, publisher))
            .ok_or_else(|| Problem::not_found(format!("this service consumes no queue {queue:?}")))
    }

    /// Sets the actions of a failpoint.
    fn set(&self, failpoint: &str, actions: &str) -> Result<(), Problem> {
        if !self.failpoints.contains(&failpoint) {
            return Err(Problem::not_found(format!(
                "there is no failpoint {failpoint}; there are {}",
                self.failpoints.join(", ")
            )));
        }
        if failpoint::ENABLED {
            return failpoint::set(failpoint, actions).map_err(Problem::internal);
        }
        // Without failpoints no thread is held, so there is nothing to release.
        if actions == "off" {
            return Ok(());
        }
        Err(Problem::not_implemented(
            "this build has no failpoints: build with --features holdfast/failpoints",
        ))
    }
}

pub(crate) fn routes(routes: &mut Routes) {
    routes
        .service(show)
        .service(pause)
        .service(resume)
        .service(damage)
        .service(poison)
        .service(crash)
        .service(hold)
        .service(fail)
        .service(turn);
}

/// The faults that can be caused in a service, and those that are active.
#[derive(Debug, Serialize, ToSchema)]
struct Broken {
    /// The id of the process that answers: faults are of this process alone.
    process: Uuid,
    /// The queues that it consumes.
    queues: Vec<String>,
    /// The queues that are paused.
    paused: Vec<String>,
    /// The failpoints at which it can be made to crash, or to wait.
    #[schema(value_type = Vec<String>)]
    failpoints: Arc<[&'static str]>,
    /// True if the build has failpoints.
    failpoints_compiled_in: bool,
    /// The features that can be switched off.
    switches: Vec<SwitchView>,
}

/// A feature that can be switched off.
#[derive(Debug, Serialize, ToSchema)]
struct SwitchView {
    name: &'static str,
    /// The feature that is on while the switch is on.
    what: &'static str,
    on: bool,
}

impl From<&Switch> for SwitchView {
    fn from(switch: &Switch) -> Self {
        Self {
            name: switch.name(),
            what: switch.what(),
            on: switch.is_on(),
        }
    }
}

/// The new state of a switch.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Switching {
    on: bool,
}

/// A request to hold threads at a failpoint, or to release them.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Holding {
    hold: bool,
}

/// The choice of the message to damage.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Damage {
    /// A text that the payload contains: a customer's name, say. At least 4 characters.
    #[schema(min_length = 4, max_length = 100)]
    containing: String,
}

/// The faults that the service is to have.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Fault {
    /// The delay of each request, in milliseconds: 0 to 60000.
    #[serde(default)]
    #[schema(maximum = 60000)]
    latency_ms: u64,
    /// True if each request then fails with 500.
    #[serde(default)]
    unavailable: bool,
}

/// A message that cannot be read.
#[derive(Debug, Serialize, ToSchema)]
struct Poisoned {
    message_id: Uuid,
}

/// Shows the faults that can be caused in this service, and those that are active.
#[utoipa::path(tag = "demo", operation_id = "show_broken", responses((status = 200, body = Broken)))]
#[get("/demo")]
async fn show(_: Operator, state: web::Data<DemoState>) -> HttpResponse {
    let (queues, paused) = state
        .queues
        .as_ref()
        .map(|(controls, _)| (controls.queues(), controls.paused()))
        .unwrap_or_default();
    HttpResponse::Ok().json(Broken {
        process: state.process,
        queues,
        paused,
        failpoints: Arc::clone(&state.failpoints),
        failpoints_compiled_in: failpoint::ENABLED,
        switches: state.switches.iter().map(SwitchView::from).collect(),
    })
}

/// Stops consuming a queue. Its messages wait in it.
#[utoipa::path(
    tag = "demo",
    operation_id = "pause_queue",
    params(("queue" = String, Path, description = "The queue's name.")),
    responses((status = 204, description = "It is paused.")),
)]
#[post("/demo/queues/{queue}/pause")]
async fn pause(
    Operator(operator): Operator,
    state: web::Data<DemoState>,
    queue: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    state.controls(&queue)?.0.pause(&queue, true);
    warn!(queue = *queue, operator = %operator.id, "paused");
    Ok(HttpResponse::NoContent().finish())
}

/// Resumes consuming a queue.
#[utoipa::path(
    tag = "demo",
    operation_id = "resume_queue",
    params(("queue" = String, Path, description = "The queue's name.")),
    responses((status = 204, description = "It is consumed again.")),
)]
#[post("/demo/queues/{queue}/resume")]
async fn resume(
    Operator(operator): Operator,
    state: web::Data<DemoState>,
    queue: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    state.controls(&queue)?.0.pause(&queue, false);
    warn!(queue = *queue, operator = %operator.id, "goes on");
    Ok(HttpResponse::NoContent().finish())
}

/// Damages the next message of a queue that contains a text: it is parked, and an operator can repair it.
#[utoipa::path(
    tag = "demo",
    operation_id = "damage_message",
    params(("queue" = String, Path, description = "The queue's name.")),
    request_body = Damage,
    responses(
        (status = 204, description = "The next such message will be damaged."),
        (status = 501, description = "This build has no failpoints."),
    ),
)]
#[post("/demo/queues/{queue}/damage")]
async fn damage(
    Operator(operator): Operator,
    state: web::Data<DemoState>,
    queue: web::Path<String>,
    JsonBody(Damage { containing }): JsonBody<Damage>,
) -> Result<HttpResponse, Problem> {
    if !(4..=100).contains(&containing.chars().count()) {
        return Err(Problem::invalid_field(
            "containing",
            "has 4 to 100 characters",
        ));
    }
    state.controls(&queue)?;
    chaos::damage(&queue, &containing)
        .map_err(|error| Problem::not_implemented(error.to_string()))?;
    warn!(queue = *queue, containing, operator = %operator.id, "the next such message will be damaged");
    Ok(HttpResponse::NoContent().finish())
}

/// Publishes to a queue bytes that are not a message: they are parked, and can only be dropped.
#[utoipa::path(
    tag = "demo",
    operation_id = "poison_queue",
    params(("queue" = String, Path, description = "The queue's name.")),
    responses((status = 202, body = Poisoned)),
)]
#[post("/demo/queues/{queue}/poison")]
async fn poison(
    Operator(operator): Operator,
    state: web::Data<DemoState>,
    queue: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (_, publisher) = state.controls(&queue)?;
    let message = Message {
        id: Uuid::now_v7(),
        exchange: retry_exchange(&queue),
        routing_key: queue.clone(),
        headers: [(
            "note".to_owned(),
            "from the front page: this was never a message".to_owned(),
        )]
        .into(),
        payload: b"\x00\xff\xfe this is no JSON".to_vec(),
    };
    let message_id = message.id;
    let outcome = publisher.publish(std::slice::from_ref(&message)).await;
    if outcome != [Outcome::Confirmed] {
        return Err(Problem::unavailable(format!(
            "the broker did not take it: {outcome:?}"
        )));
    }
    warn!(queue = *queue, message.id = %message_id, operator = %operator.id, "poisoned");
    Ok(HttpResponse::Accepted().json(Poisoned { message_id }))
}

/// Makes the process abort when it next reaches a failpoint.
#[utoipa::path(
    tag = "demo",
    operation_id = "crash_at_failpoint",
    params(("name" = String, Path, description = "The failpoint's name.")),
    responses(
        (status = 204, description = "The process will abort there."),
        (status = 501, description = "This build has no failpoints."),
    ),
)]
#[post("/demo/failpoints/{name}")]
async fn crash(
    Operator(operator): Operator,
    state: web::Data<DemoState>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    state.set(&name, "1*return(abort)")?;
    warn!(failpoint = *name, operator = %operator.id, "the process will abort there");
    Ok(HttpResponse::NoContent().finish())
}

/// Holds every thread that reaches a failpoint, and with it all other work of the thread; or releases the threads.
#[utoipa::path(
    tag = "demo",
    operation_id = "hold_at_failpoint",
    params(("name" = String, Path, description = "The failpoint's name.")),
    request_body = Holding,
    responses(
        (status = 204, description = "Threads will wait there, or go on."),
        (status = 501, description = "This build has no failpoints."),
    ),
)]
#[put("/demo/failpoints/{name}")]
async fn hold(
    Operator(operator): Operator,
    state: web::Data<DemoState>,
    name: web::Path<String>,
    JsonBody(Holding { hold }): JsonBody<Holding>,
) -> Result<HttpResponse, Problem> {
    state.set(&name, if hold { "pause" } else { "off" })?;
    warn!(failpoint = *name, hold, operator = %operator.id, "threads will wait there, or go on");
    Ok(HttpResponse::NoContent().finish())
}

/// Makes every request slow, or makes it fail, except those of operators and demonstrations. `{}` ends the faults.
#[utoipa::path(
    tag = "demo",
    operation_id = "set_faults",
    request_body = Fault,
    responses((status = 204, description = "The faults are set.")),
)]
#[put("/demo/faults")]
async fn fail(
    Operator(operator): Operator,
    state: web::Data<DemoState>,
    JsonBody(fault): JsonBody<Fault>,
) -> Result<HttpResponse, Problem> {
    if fault.latency_ms > 60_000 {
        return Err(Problem::invalid_field("latency_ms", "is from 0 to 60000"));
    }
    state.faults.set(fault.latency_ms, fault.unavailable);
    warn!(?fault, operator = %operator.id, "faults are set");
    Ok(HttpResponse::NoContent().finish())
}

/// Switches a feature of this process off, or on again.
#[utoipa::path(
    tag = "demo",
    operation_id = "turn_switch",
    params(("name" = String, Path, description = "The switch's name.")),
    request_body = Switching,
    responses((status = 200, body = SwitchView)),
)]
#[put("/demo/switches/{name}")]
async fn turn(
    Operator(operator): Operator,
    state: web::Data<DemoState>,
    name: web::Path<String>,
    JsonBody(Switching { on }): JsonBody<Switching>,
) -> Result<HttpResponse, Problem> {
    let known = state.switches.iter().find(|switch| switch.name() == *name);
    let switch = known.ok_or_else(|| {
        let names: Vec<&str> = state.switches.iter().map(Switch::name).collect();
        Problem::not_found(format!(
            "this service has no switch {:?}; it has {}",
            *name,
            names.join(", ")
        ))
    })?;
    switch.set(on);
    warn!(switch = switch.name(), on, operator = %operator.id, "switched");
    Ok(HttpResponse::Ok().json(SwitchView::from(switch)))
}
