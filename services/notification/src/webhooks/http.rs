//! Webhook endpoints. A customer's endpoint receives webhooks about that customer's orders; other customers get 404 for
//! it. The operators' endpoints receive webhooks about every order, and belong to all operators, who see and manage
//! customers' endpoints as well. In `messages`, the webhooks to one endpoint.

mod messages;
mod view;

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, delete, get,
    http::{StatusCode, header},
    post, web,
};
use chassis::{
    Routes, database,
    http::{JsonBody, PathId, Problem, QueryString, deadline_of, page_size},
    identity::{Anyone, Principal, Role},
};
use holdfast::outbox::Waker;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use self::view::{EndpointView, EndpointWithWebhooks, Registered};
use crate::webhooks::{
    client::{Courier, Objection, Secret, Vault},
    domain::TYPES,
    store::{
        self, Page,
        endpoints::{self, Endpoint, Kept, NewEndpoint},
    },
};

/// The time for which an old secret still signs after a rotation.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// The timeout of the look-up of a host.
const LOOK_UP: Duration = Duration::from_secs(3);
/// The number of webhooks that are shown with their endpoint.
const RECENT: i64 = 20;
/// The number of held webhooks that are released at a time.
const CHUNK: i64 = 1000;

/// The state that the handlers share.
pub(crate) struct State {
    pub(crate) pool: PgPool,
    /// The waker of the worker that sends webhooks.
    pub(crate) waker: Waker,
    /// The client that checks the URLs of endpoints.
    pub(crate) courier: Arc<Courier>,
    /// The vault that seals the secrets.
    pub(crate) vault: Arc<Vault>,
    /// The most endpoints that one owner may have.
    pub(crate) max_endpoints: u16,
}

pub(crate) fn routes(routes: &mut Routes) {
    routes
        .service(register)
        .service(list)
        .service(rotate)
        .service(enable)
        .service(disable)
        .service(show)
        .service(delete);
    messages::routes(routes);
}

/// An endpoint to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Register {
    /// The URL: https, at most 2000 bytes, on a host with public addresses only.
    #[schema(max_length = 2000, example = "https://shop.example/hooks/holdfast")]
    url: String,
    /// The types of webhooks to send; all, if it is left out.
    #[serde(default)]
    #[schema(min_items = 1)]
    events: Option<Vec<EventType>>,
}

/// A type of webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
enum EventType {
    #[serde(rename = "order.confirmed")]
    OrderConfirmed,
    #[serde(rename = "order.cancelled")]
    OrderCancelled,
}

impl EventType {
    fn name(self) -> &'static str {
        let [confirmed, cancelled] = TYPES;
        match self {
            Self::OrderConfirmed => confirmed,
            Self::OrderCancelled => cancelled,
        }
    }
}

/// The result of a rotation.
#[derive(Debug, Serialize, ToSchema)]
struct Rotated {
    /// The new secret, which is shown only in this response.
    secret: String,
    /// The time until which webhooks are signed by the old secret as well.
    #[serde(with = "time::serde::rfc3339")]
    old_secret_until: OffsetDateTime,
}

/// Returns the owner whose endpoints the caller may see; `None` for operators, who may see all.
fn whose(principal: &Principal) -> Option<&str> {
    match principal.role {
        Role::Operator => None,
        Role::Customer | Role::Service => Some(principal.id.as_str()),
    }
}

/// Finds an endpoint that the caller may see. Another customer's is reported as missing: the response must not tell
/// that it exists.
async fn visible(state: &State, id: Uuid, principal: &Principal) -> Result<Endpoint, Problem> {
    endpoints::find(&state.pool, id, whose(principal))
        .await?
        .ok_or_else(|| Problem::not_found("there is no such webhook endpoint"))
}

/// Begins a response with a secret in it, which no cache may store.
fn secret(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response
}

/// Generates a secret for an endpoint. Returns it with the form in which it is to be stored.
fn new_secret(state: &State, endpoint: Uuid) -> Result<(Secret, Kept), Problem> {
    let signing = Secret::generate().map_err(Problem::internal)?;
    let kept = state.vault.keep(endpoint, signing.bytes());
    Ok((signing, kept.map_err(Problem::internal)?))
}

/// Returns the names of the types that an endpoint wants, each once; `None` for all types.
fn wanted(events: Option<Vec<EventType>>) -> Result<Option<Vec<String>>, Problem> {
    let Some(events) = events else {
        return Ok(None);
    };
    if events.is_empty() {
        let all = TYPES.join(", ");
        let why = format!("must name at least one of {all}, or be left out for all");
        return Err(Problem::invalid_field("events", why));
    }
    let is_wanted = |name: &&str| events.iter().any(|event| event.name() == *name);
    let names = TYPES.into_iter().filter(is_wanted).map(str::to_owned);
    Ok(Some(names.collect()))
}

fn too_many(most: i64) -> Problem {
    Problem::conflict(format!(
        "there are {most} webhook endpoints already, the most that are allowed: delete one"
    ))
}

/// Registers an endpoint.
///
/// A customer's endpoint receives webhooks about that customer's orders, an operator's about every order. Its secret is
/// shown only in this response.
#[utoipa::path(tag = "webhooks", operation_id = "register_webhook", request_body = Register, responses(
    (status = 201, body = Registered, headers(("Location" = String, description = "The endpoint's path."))),
    (status = 409, description = "The owner has as many endpoints as are allowed."),
    (status = 422, description = "A field is not valid, or nothing may be sent to that host."),
))]
#[post("/webhooks")]
async fn register(
    Anyone(principal): Anyone,
    request: HttpRequest,
    state: web::Data<State>,
    JsonBody(Register { url, events }): JsonBody<Register>,
) -> Result<HttpResponse, Problem> {
    let events = wanted(events)?;
    let owner = whose(&principal);
    let most = i64::from(state.max_endpoints);
    // Checked first, so that an owner with all endpoints that are allowed cannot have hosts looked up.
    if endpoints::count(&state.pool, owner).await? >= most {
        return Err(too_many(most));
    }
    let deadline = deadline_of(&request).within(LOOK_UP);
    let checked = state.courier.check(&url, owner, deadline).await;
    checked.map_err(|objection| match objection {
        Objection::Url(why) => Problem::invalid_field("url", why),
        Objection::Busy => Problem::unavailable("too many hosts are being looked up"),
    })?;
    let id = Uuid::now_v7();
    let (signing, kept) = new_secret(&state, id)?;
    let new = NewEndpoint {
        id,
        owner,
        url: &url,
        events: events.as_deref(),
        secret: &kept,
    };
    let mut tx = database::begin(&state.pool, "register webhook").await?;
    if !endpoints::add(&mut tx, &new, most).await? {
        return Err(too_many(most));
    }
    tx.commit().await?;
    tracing::info!(endpoint.id = %id, owner = new.owner, by = %principal.id, "registered a webhook endpoint");
    let endpoint = visible(&state, id, &principal).await?;
    Ok(secret(StatusCode::CREATED)
        .insert_header((header::LOCATION, format!("/webhooks/{id}")))
        .json(Registered {
            endpoint: endpoint.into(),
            secret: signing.reveal(),
        }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// The most endpoints to return (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

/// Returns endpoints, newest first: a customer's own, or all of them to an operator.
#[utoipa::path(tag = "webhooks", operation_id = "list_webhooks", params(ListQuery), responses((status = 200, body = Vec<EndpointView>)))]
#[get("/webhooks")]
async fn list(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    QueryString(query): QueryString<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = page_size(query.limit)?;
    let endpoints = endpoints::list(&state.pool, whose(&principal), limit).await?;
    let views: Vec<EndpointView> = endpoints.into_iter().map(EndpointView::from).collect();
    Ok(HttpResponse::Ok().json(views))
}

/// Returns an endpoint, and the 20 newest webhooks to it.
#[utoipa::path(tag = "webhooks", params(("id" = Uuid, Path, description = "The endpoint's id.")), operation_id = "show_webhook", responses(
    (status = 200, body = EndpointWithWebhooks),
    (status = 404, description = "There is no such endpoint, or it is not yours."),
))]
#[get("/webhooks/{id}")]
async fn show(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let endpoint = visible(&state, id, &principal).await?;
    let newest = Page {
        before: None,
        limit: RECENT,
    };
    let recent = store::list(&state.pool, id, &newest).await?;
    Ok(HttpResponse::Ok().json(EndpointWithWebhooks::new(endpoint, recent)))
}

/// Gives an endpoint a new secret.
///
/// It is shown only in this response. For 24 hours webhooks are signed by the old secret as well; one from before an
/// earlier rotation signs no more.
#[utoipa::path(tag = "webhooks", params(("id" = Uuid, Path, description = "The endpoint's id.")), operation_id = "rotate_webhook_secret", responses(
    (status = 200, body = Rotated),
    (status = 404, description = "There is no such endpoint, or it is not yours."),
))]
#[post("/webhooks/{id}/rotate")]
async fn rotate(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    visible(&state, id, &principal).await?;
    let (signing, kept) = new_secret(&state, id)?;
    let mut tx = database::begin(&state.pool, "rotate webhook secret").await?;
    let secrets = endpoints::lock_secrets(&mut tx, id).await?;
    let old = secrets.ok_or_else(|| Problem::not_found("there is no such webhook endpoint"))?;
    let until = endpoints::rotate(&mut tx, id, &kept, &old.secret, OVERLAP).await?;
    tx.commit().await?;
    tracing::info!(endpoint.id = %id, by = %principal.id, "rotated a webhook secret");
    Ok(secret(StatusCode::OK).json(Rotated {
        secret: signing.reveal(),
        old_secret_until: until,
    }))
}

/// Enables an endpoint, and queues the webhooks that were held for it.
#[utoipa::path(tag = "webhooks", operation_id = "enable_webhook", params(("id" = Uuid, Path, description = "The endpoint's id.")), responses(
    (status = 200, body = EndpointView),
    (status = 404, description = "There is no such endpoint, or it is not yours."),
))]
#[post("/webhooks/{id}/enable")]
async fn enable(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    visible(&state, id, &principal).await?;
    endpoints::enable(&state.pool, id).await?;
    while store::release(&state.pool, id, CHUNK).await? == CHUNK.unsigned_abs() {}
    state.waker.wake();
    tracing::info!(endpoint.id = %id, by = %principal.id, "enabled a webhook endpoint");
    let endpoint = visible(&state, id, &principal).await?;
    Ok(HttpResponse::Ok().json(EndpointView::from(endpoint)))
}

/// Disables an endpoint: no new webhooks are queued for it, and those that are queued are held.
#[utoipa::path(tag = "webhooks", operation_id = "disable_webhook", params(("id" = Uuid, Path, description = "The endpoint's id.")), responses(
    (status = 200, body = EndpointView),
    (status = 404, description = "There is no such endpoint, or it is not yours."),
))]
#[post("/webhooks/{id}/disable")]
async fn disable(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    visible(&state, id, &principal).await?;
    endpoints::disable(&state.pool, id, &format!("by {}", principal.id)).await?;
    tracing::info!(endpoint.id = %id, by = %principal.id, "disabled a webhook endpoint");
    let endpoint = visible(&state, id, &principal).await?;
    Ok(HttpResponse::Ok().json(EndpointView::from(endpoint)))
}

/// Deletes an endpoint, and sends none of the webhooks that are queued for it.
#[utoipa::path(tag = "webhooks", params(("id" = Uuid, Path, description = "The endpoint's id.")), operation_id = "delete_webhook", responses(
    (status = 204, description = "It is deleted."),
    (status = 404, description = "There is no such endpoint, or it is not yours."),
))]
#[delete("/webhooks/{id}")]
async fn delete(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    visible(&state, id, &principal).await?;
    endpoints::delete(&state.pool, id).await?;
    tracing::info!(endpoint.id = %id, by = %principal.id, "deleted a webhook endpoint");
    Ok(HttpResponse::NoContent().finish())
}
