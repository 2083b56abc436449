//! The controls that break things. They exist only in demo mode, as do the services' routes that they call.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, get, post, put, web};
use chassis::http::{JsonBody, Problem, deadline_of};
use contracts::value::CustomerId;
use holdfast::{backoff, deadline::Deadline};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    State, passed,
    visitor::{Guarded, Meant, Visitor},
};
use crate::client::{Call, Verb};

/// The service and queue whose message is damaged: payment's, which handles `order.created`.
const DAMAGED: (&str, &str) = ("payment", "payment.choreography");
/// The service and queue to which bytes are sent that are not a message.
const POISONED: (&str, &str) = ("notification", "notification.choreography");
/// The longest wait until the damaged message is parked.
const PARKED: Duration = Duration::from_secs(3);

/// An action on a queue.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[allow(
    dead_code,
    reason = "it stands in the document alone: the route has the same words"
)]
enum QueueAction {
    Pause,
    Resume,
}

/// The failpoint at which a service is to abort.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Crash {
    /// The failpoint's name.
    #[schema(pattern = "^[A-Za-z0-9._-]+$")]
    failpoint: String,
}

/// The kind of message to send.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Poison {
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The damaged event of a new order, which waits until an operator has edited and requeued the message.
    Malformed,
    /// Bytes that are not JSON. An operator can only drop them.
    Unmendable,
}

/// The message that was poisoned, and its queue.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PoisonedQueue)]
pub(super) struct Poisoned {
    /// The id of the message; null if it is not parked yet (the queue is paused, say).
    message_id: Option<Uuid>,
    queue: &'static str,
    /// The order that waits for the message; null if there is none.
    order_id: Option<Uuid>,
}

/// Returns the card processor's knobs.
#[utoipa::path(tag = "demo", responses(
    Guarded, (status = 200, description = "The knobs, as the card processor shows them.", body = Object),
))]
#[get("/room/card-processor")]
pub(super) async fn show_knobs(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let call = Call::new(Verb::Get, "/knobs", &visitor.token);
    let answer = state
        .services
        .pass("card-processor", call, deadline_of(&request));
    passed(answer.await?)
}

/// Turns the card processor's knobs.
#[utoipa::path(tag = "demo", request_body(content = Object, description = "The knobs, as the card processor shows them."), responses(
    Guarded, (status = 204, description = "The knobs are turned."),
))]
#[put("/room/card-processor")]
pub(super) async fn turn_knobs(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    JsonBody(knobs): JsonBody<Value>,
) -> Result<HttpResponse, Problem> {
    let call = Call::new(Verb::Put, "/knobs", &visitor.token).with(&knobs);
    let answer = state
        .services
        .pass("card-processor", call, deadline_of(&request));
    let answer = answer.await?;
    state.room.attend();
    passed(answer)
}

/// Pauses or resumes a service's consumer of a queue. A paused queue keeps its messages.
#[utoipa::path(
    tag = "demo",
    operation_id = "pause_or_resume_queue",
    params(
        ("service" = String, Path, description = "The service's name."),
        ("queue" = String, Path, description = "The queue's name."),
        ("deed" = inline(QueueAction), Path, description = "The action."),
    ),
    request_body = Meant,
    responses(Guarded, (status = 204, description = "The queue is paused or resumed.")),
)]
#[post("/room/services/{service}/queues/{queue}/{deed:pause|resume}")]
pub(super) async fn pause_queue(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, Problem> {
    let (service, queue, action) = path.into_inner();
    is_name(&queue)?;
    let path = format!("/demo/queues/{queue}/{action}");
    let call = Call::new(Verb::Post, &path, &visitor.token);
    let answer = state.services.pass(&service, call, deadline_of(&request));
    let answer = answer.await?;
    state.room.attend();
    passed(answer)
}

/// Makes a service abort when it next reaches a failpoint, once.
#[utoipa::path(
    tag = "demo",
    operation_id = "crash_service",
    params(("service" = String, Path, description = "The service's name.")),
    request_body = Crash,
    responses(
        Guarded,
        (status = 204, description = "The service will abort there."),
        (status = 501, description = "The service's build has no failpoints."),
    ),
)]
#[post("/room/services/{service}/crash")]
pub(super) async fn crash(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    service: web::Path<String>,
    JsonBody(Crash { failpoint }): JsonBody<Crash>,
) -> Result<HttpResponse, Problem> {
    is_name(&failpoint)?;
    let path = format!("/demo/failpoints/{failpoint}");
    let call = Call::new(Verb::Post, &path, &visitor.token);
    let answer = state.services.pass(&service, call, deadline_of(&request));
    passed(answer.await?)
}

/// Checks that a segment of a path is a name, so that the path cannot lead elsewhere.
fn is_name(name: &str) -> Result<(), Problem> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.bytes().all(fits) && !name.is_empty() {
        Ok(())
    } else {
        Err(Problem::not_found(format!(
            "{name:?} is not a valid name: use A-Z, a-z, 0-9, '.', '_' and '-'"
        )))
    }
}

/// Sends a message that cannot be handled.
///
/// `malformed`: payment is set to damage the next message that contains a new customer's name; then that customer
/// places an order, by card. The event is damaged only where payment reads it, so only payment parks it, and the order
/// waits. `unmendable`: bytes that are not a message are sent to notification.
#[utoipa::path(tag = "demo", request_body = Poison, responses(Guarded, (status = 202, body = Poisoned)))]
#[post("/room/poison")]
pub(super) async fn poison(
    visitor: Visitor,
    request: HttpRequest,
    state: web::Data<State>,
    JsonBody(Poison { kind }): JsonBody<Poison>,
) -> Result<HttpResponse, Problem> {
    let deadline = deadline_of(&request);
    let poisoned = match kind {
        Kind::Malformed => malformed(&state, &visitor, deadline).await?,
        Kind::Unmendable => unmendable(&state, &visitor, deadline).await?,
    };
    state.room.attend();
    Ok(HttpResponse::Accepted().json(poisoned))
}

async fn malformed(
    state: &State,
    visitor: &Visitor,
    deadline: Deadline,
) -> Result<Poisoned, Problem> {
    let services = &state.services;
    let (service, queue) = DAMAGED;
    let key = Uuid::now_v7();
    // The random end of a version 7 id.
    let end = key.simple().to_string().split_off(24);
    let customer: CustomerId = format!("mallory.{end}")
        .parse()
        .map_err(Problem::internal)?;
    let body = json!({ "containing": customer });
    let path = format!("/demo/queues/{queue}/damage");
    let call = Call::new(Verb::Post, &path, &visitor.token).with(&body);
    let () = services.ask(service, call, deadline).await?;

    let token = services.customer_token(customer)?;
    // By card: a new customer has no wallet.
    let order = json!({
        "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }],
        "payment": { "method": "card", "token": "tok_visa" },
    });
    let key = key.to_string();
    let call = Call {
        idempotency_key: Some(&key),
        ..Call::new(Verb::Post, "/orders", &token).with(&order)
    };
    let placed: Value = services.ask("order", call, deadline).await?;
    let order_id: Option<Uuid> = placed["id"].as_str().and_then(|id| id.parse().ok());
    Ok(Poisoned {
        message_id: parked_message(state, visitor, order_id, deadline).await,
        queue,
        order_id,
    })
}

/// Waits until payment has parked a message about an order, and returns its id; `None` after [`PARKED`].
async fn parked_message(
    state: &State,
    visitor: &Visitor,
    order: Option<Uuid>,
    deadline: Deadline,
) -> Option<Uuid> {
    let order = order?.to_string();
    let look = async {
        loop {
            let path = "/operator/parked?state=parked&limit=200";
            let call = Call::new(Verb::Get, path, &visitor.token);
            let rows = state
                .services
                .ask::<Vec<Value>>(DAMAGED.0, call, deadline)
                .await;
            let rows = rows.unwrap_or_default();
            if let Some(row) = rows.iter().find(|row| row["subject"] == order.as_str()) {
                return row["message_id"].as_str().and_then(|id| id.parse().ok());
            }
            backoff::pause(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PARKED, look).await.ok().flatten()
}

async fn unmendable(
    state: &State,
    visitor: &Visitor,
    deadline: Deadline,
) -> Result<Poisoned, Problem> {
    #[derive(Deserialize)]
    struct Sent {
        message_id: Uuid,
    }
    let (service, queue) = POISONED;
    let path = format!("/demo/queues/{queue}/poison");
    let call = Call::new(Verb::Post, &path, &visitor.token);
    let sent: Sent = state.services.ask(service, call, deadline).await?;
    Ok(Poisoned {
        message_id: Some(sent.message_id),
        queue,
        order_id: None,
    })
}
