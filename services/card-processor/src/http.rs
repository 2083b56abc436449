//! The HTTP API: charges for merchants, the ledger and the knobs for operators.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, get, post, put, web};
use chassis::{
    Routes,
    http::{IdempotencyKey, JsonBody, PathId, Problem, QueryString},
    identity::{Operator, Service},
    trace::OrderFacts,
};
use contracts::{
    payment::DeclineReason,
    value::{CardToken, Money, OrderId},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use time::OffsetDateTime;
use tracing::{Instrument, Span};
use utoipa::{IntoParams, OpenApi, ToSchema};
use uuid::Uuid;

use crate::{
    commands,
    domain::{Knobs, Status},
    store::{self, Charge, Entry},
};

/// The state that the handlers share.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast: card processor",
        description = "Stand-in for an external card processor. Cards: tok_visa, tok_mastercard (and any other) are charged; \
                       tok_declined, tok_expired, tok_insufficient_funds, tok_unknown are declined; tok_slow takes 2 s longer.",
        version = "1",
    ),
    tags((name = "charges", description = "A merchant charges cards, and refunds charges.")),
)]
pub(crate) struct Api;

pub(crate) fn routes(routes: &mut Routes) {
    routes
        .service(charge)
        .service(refund)
        .service(ledger)
        .service(show_knobs)
        .service(turn_knobs);
}

/// A charge to make.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChargeRequest {
    /// The merchant's reference: the order that is paid.
    reference: OrderId,
    token: CardToken,
    /// The amount, more than zero.
    amount: Money,
}

/// The result of a charge or a refund.
#[derive(Debug, Serialize, ToSchema)]
struct ChargeView {
    id: Uuid,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<DeclineReason>,
}

/// Charges a card, once per Idempotency-Key.
#[utoipa::path(
    tag = "charges",
    params(("Idempotency-Key" = inline(IdempotencyKey), Header, description = "New for each charge.")),
    request_body = ChargeRequest,
    responses(
        (status = 200, description = "The charge is captured or declined.", body = ChargeView),
        (
            status = 409, description = "This charge is in progress: repeat the request.",
            headers(("Retry-After" = u32, description = "The seconds after which to repeat the request.")),
        ),
        (status = 503, description = "It failed, and the card may have been charged: repeat the request under the same key."),
    ),
)]
#[post("/charges")]
async fn charge(
    _: Service,
    request: HttpRequest,
    state: web::Data<State>,
    JsonBody(body): JsonBody<ChargeRequest>,
) -> Result<HttpResponse, Problem> {
    if body.amount.amount_minor <= 0 {
        return Err(Problem::invalid_field(
            "amount.amount_minor",
            "must be more than zero",
        ));
    }
    let asked = Charge {
        id: Uuid::now_v7(),
        idempotency_key: IdempotencyKey::of(&request)?.into(),
        request_hash: Sha256::digest(serde_json::to_vec(&body).map_err(Problem::internal)?)
            .to_vec(),
        reference: body.reference.to_string(),
        token: body.token,
        amount: body.amount,
        status: Status::Processing,
        is_abandoned: false,
    };
    // The charge gets a task of its own, which goes on if the merchant hangs up.
    OrderFacts::of(body.reference)
        .amount(body.amount)
        .describe(&Span::current());
    let done = tokio::spawn(commands::charge(state.pool.clone(), asked).in_current_span())
        .await
        .map_err(Problem::internal)??;
    let (status, reason) = match done.status {
        Status::Processing => ("processing", None),
        Status::Captured => ("captured", None),
        Status::Declined(reason) => ("declined", Some(reason)),
    };
    Ok(HttpResponse::Ok().json(ChargeView {
        id: done.id,
        status,
        reason,
    }))
}

/// Refunds a charge, once, whatever the Idempotency-Key.
#[utoipa::path(
    tag = "charges",
    params(
        ("id" = Uuid, Path, description = "The charge's id."),
        ("Idempotency-Key" = inline(IdempotencyKey), Header, description = "New for each refund."),
    ),
    responses(
        (status = 200, description = "The charge is refunded.", body = ChargeView),
        (status = 409, description = "The charge was declined, or is not decided yet."),
        (status = 503, description = "It failed, and the charge may have been refunded: repeat the request under the same key."),
    ),
)]
#[post("/charges/{id}/refund")]
async fn refund(
    _: Service,
    request: HttpRequest,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let key = IdempotencyKey::of(&request)?.into();
    let done = tokio::spawn(commands::refund(state.pool.clone(), id, key).in_current_span())
        .await
        .map_err(Problem::internal)??;
    Ok(HttpResponse::Ok().json(ChargeView {
        id: done.id,
        status: "refunded",
        reason: None,
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LedgerQuery {
    /// The `seq` of the last entry of the page before.
    after: Option<i64>,
    /// The most entries to return, from 1 to 1000 (default 100).
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
}

/// An entry of the ledger: money that moved.
#[derive(Debug, Serialize, ToSchema)]
struct EntryView {
    seq: i64,
    charge_id: Uuid,
    reference: String,
    /// Either capture or refund.
    kind: String,
    amount_minor: i64,
    currency: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

/// Returns the entries of the ledger, oldest first.
#[utoipa::path(tag = "operator", params(LedgerQuery), responses((status = 200, body = Vec<EntryView>)))]
#[get("/ledger")]
async fn ledger(
    _: Operator,
    state: web::Data<State>,
    QueryString(query): QueryString<LedgerQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Problem::invalid_field(
            "query limit",
            "must be from 1 to 1000",
        ));
    }
    let entries = store::ledger(&state.pool, query.after.unwrap_or(0), limit).await?;
    let view = |Entry {
                    seq,
                    charge_id,
                    reference,
                    kind,
                    amount_minor,
                    currency,
                    at,
                }| EntryView {
        seq,
        charge_id,
        reference,
        kind,
        amount_minor,
        currency,
        at,
    };
    Ok(HttpResponse::Ok().json(entries.into_iter().map(view).collect::<Vec<_>>()))
}

/// The faults that the card processor makes, for demonstrations and drills.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KnobsView {
    /// The shortest time that a decision takes, in milliseconds, up to 600000.
    #[schema(maximum = 600_000)]
    latency_min_ms: u64,
    /// The longest time that a decision takes, in milliseconds, up to 600000.
    #[schema(maximum = 600_000)]
    latency_max_ms: u64,
    /// The share of requests that fail before anything is done, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    fail_before: f64,
    /// The share of requests that are carried out and whose answer is lost, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    fail_after: f64,
    /// The share of charges that are declined, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    decline: f64,
}

/// Returns the knobs.
#[utoipa::path(tag = "operator", responses((status = 200, body = KnobsView)))]
#[get("/knobs")]
async fn show_knobs(_: Operator, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let knobs = store::knobs(&state.pool).await?;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ok(HttpResponse::Ok().json(KnobsView {
        latency_min_ms: millis(knobs.latency_min),
        latency_max_ms: millis(knobs.latency_max),
        fail_before: knobs.fail_before,
        fail_after: knobs.fail_after,
        decline: knobs.decline,
    }))
}

/// Turns the knobs. They stay so over a restart.
#[utoipa::path(tag = "operator", request_body = KnobsView, responses((status = 204, description = "The knobs are turned.")))]
#[put("/knobs")]
async fn turn_knobs(
    _: Operator,
    state: web::Data<State>,
    JsonBody(knobs): JsonBody<KnobsView>,
) -> Result<HttpResponse, Problem> {
    if knobs.latency_max_ms > 600_000 {
        return Err(Problem::invalid_field(
            "latency_max_ms",
            "must be at most 600000",
        ));
    }
    if knobs.latency_min_ms > knobs.latency_max_ms {
        return Err(Problem::invalid_field(
            "latency_min_ms",
            "must be at most latency_max_ms",
        ));
    }
    let shares = [
        ("fail_before", knobs.fail_before),
        ("fail_after", knobs.fail_after),
        ("decline", knobs.decline),
    ];
    if let Some((name, _)) = shares
        .iter()
        .find(|(_, share)| !(0.0..=1.0).contains(share))
    {
        return Err(Problem::invalid_field(*name, "must be from 0 to 1"));
    }
    let knobs = Knobs {
        latency_min: Duration::from_millis(knobs.latency_min_ms),
        latency_max: Duration::from_millis(knobs.latency_max_ms),
        fail_before: knobs.fail_before,
        fail_after: knobs.fail_after,
        decline: knobs.decline,
    };
    store::turn(&state.pool, &knobs).await?;
    Ok(HttpResponse::NoContent().finish())
}
