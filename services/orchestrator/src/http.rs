//! The API, which is for operators only.

mod view;

use std::sync::Arc;

use actix_web::{HttpResponse, get, post, web};
use chassis::{
    Routes, database,
    http::{JsonBody, Note, PathId, Problem, QueryString, page_of, page_size, unknown_cursor},
    identity::{self, Operator},
};
use contracts::{order::Saga, value::OrderId};
use holdfast::{
    outbox::Waker,
    saga::{Action, By, Filter, Summary},
};
use serde::Deserialize;
use sqlx::PgPool;
use utoipa::{IntoParams, OpenApi, ToSchema};
use uuid::Uuid;
use view::{SagaDetail, SagaPage, SagaView};

use crate::{
    commands::{self, Sagas},
    domain::saga_id,
    error::Error,
    store,
};

/// The handlers' shared state.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
    pub(crate) waker: Waker,
    pub(crate) sagas: Arc<Sagas>,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "Holdfast: orchestrator",
    description = "Sagas: their state, their commands and replies, and what an operator can do about one that is stuck.",
    version = "1",
))]
pub(crate) struct Api;

pub(crate) fn routes(routes: &mut Routes) {
    routes
        .service(list)
        .service(of_order)
        .service(resume)
        .service(skip)
        .service(abandon)
        .service(show);
}

/// The phases of a saga.
const PHASES: [&str; 7] = [
    "running",
    "compensating",
    "stuck",
    "broken",
    "completed",
    "compensated",
    "abandoned",
];

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only sagas in these phases: running, compensating, stuck, broken, completed, compensated or abandoned, separated
    /// by commas. All sagas if absent.
    #[param(
        pattern = "^(running|compensating|stuck|broken|completed|compensated|abandoned)(,(running|compensating|stuck|broken|completed|compensated|abandoned))*$",
        example = "stuck,broken"
    )]
    phase: Option<String>,
    /// The `next` of the previous page.
    before: Option<Uuid>,
    /// The maximum number of sagas on the page (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

/// The reason for an operator's action.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Reason {
    /// The reason, and what was done instead.
    note: Note,
}

/// Lists sagas, newest first.
#[utoipa::path(tag = "operator", operation_id = "list_sagas", params(ListQuery), responses((status = 200, body = SagaPage)))]
#[get("/operator/sagas")]
async fn list(
    _: Operator,
    state: web::Data<State>,
    QueryString(query): QueryString<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = page_size(query.limit)?;
    let phases: Option<Vec<String>> = query
        .phase
        .map(|phases| phases.split(',').map(str::to_owned).collect());
    for phase in phases.iter().flatten() {
        if !PHASES.contains(&phase.as_str()) {
            return Err(Problem::invalid_field(
                "query phase",
                format!("must be one or more of {}", PHASES.join(", ")),
            ));
        }
    }
    let filter = Filter {
        phases,
        subject: None,
        before: query.before,
        limit: limit + 1,
    };
    let mut conn = connection(&state).await?;
    let found = store::list(&mut conn, &filter).await?;
    if let Some(before) = query.before
        && found.is_empty()
        && state.sagas.history(&mut conn, before).await?.is_none()
    {
        return Err(unknown_cursor("before"));
    }
    Ok(HttpResponse::Ok().json(SagaPage::new(found, limit)))
}

/// Lists the sagas of an order, newest first: `place_order`, and `undo_order` if it was cancelled after it was
/// confirmed.
#[utoipa::path(tag = "operator", operation_id = "list_sagas_of_order", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    (status = 200, body = SagaPage), (status = 404, description = "The order is choreographed, or there is no such order."),
))]
#[get("/operator/orders/{id}/sagas")]
async fn of_order(
    _: Operator,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let found = sagas_of(&state, id).await?;
    if found.is_empty() {
        return Err(Problem::not_found(
            "this order has no saga: it is choreographed, or there is no such order",
        ));
    }
    Ok(HttpResponse::Ok().json(SagaPage::new(found, i64::MAX)))
}

async fn sagas_of(state: &State, order: Uuid) -> Result<Vec<Summary>, Problem> {
    let filter = Filter {
        subject: Some(order.to_string()),
        limit: 10,
        ..Filter::default()
    };
    Ok(store::list(&mut *connection(state).await?, &filter).await?)
}

/// Returns a saga with the commands, attempts, replies and durations of every step, and with what remains.
///
/// The id is the saga's or its order's. An order's id selects the saga that the order's end depends on: `undo_order` if
/// there is one, else `place_order`.
#[utoipa::path(tag = "operator", operation_id = "show_saga", params(("id" = Uuid, Path, description = "The id of the saga, or of its order.")), responses(
    (status = 200, body = SagaDetail),
))]
#[get("/operator/sagas/{id}")]
async fn show(
    _: Operator,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(detail(&state, id).await?))
}

async fn detail(state: &State, id: Uuid) -> Result<SagaDetail, Problem> {
    let mut conn = connection(state).await?;
    let theirs = [Saga::UndoOrder, Saga::PlaceOrder].map(|saga| saga_id(OrderId(id), saga));
    for id in [id].into_iter().chain(theirs) {
        if let Some(history) = state.sagas.history(&mut conn, id).await? {
            return Ok(SagaDetail::from(history));
        }
    }
    Err(Problem::not_found(
        "there is no such saga, and no such order with one",
    ))
}

/// Resends the current command, from its first attempt on. Also takes up a broken saga once its row or this program is
/// repaired.
#[utoipa::path(tag = "operator", operation_id = "resume_saga", params(("id" = Uuid, Path, description = "The saga's id.")), request_body = Reason, responses(
    (status = 202, body = SagaDetail), (status = 409, description = "The saga is not stuck, or cannot be read."),
))]
#[post("/operator/sagas/{id}/resume")]
async fn resume(
    Operator(operator): Operator,
    state: web::Data<State>,
    PathId(id): PathId,
    JsonBody(reason): JsonBody<Reason>,
) -> Result<HttpResponse, Problem> {
    operate(&state, id, Action::Resume, &operator, &reason).await
}

/// Has the current step written off by its participant, and goes on when the participant has replied.
///
/// A step that is written off was, or will be, put right outside of this system. A participant that has undone the step
/// meanwhile replies so, and writes off nothing. A step without a settlement is passed over.
#[utoipa::path(tag = "operator", operation_id = "skip_saga_step", params(("id" = Uuid, Path, description = "The saga's id.")), request_body = Reason, responses(
    (status = 202, body = SagaDetail), (status = 409, description = "The saga is not stuck, or cannot be read."),
))]
#[post("/operator/sagas/{id}/skip")]
async fn skip(
    Operator(operator): Operator,
    state: web::Data<State>,
    PathId(id): PathId,
    JsonBody(reason): JsonBody<Reason>,
) -> Result<HttpResponse, Problem> {
    operate(&state, id, Action::Skip, &operator, &reason).await
}

/// Has all that remains written off, as with skip, and ends the saga as abandoned.
#[utoipa::path(tag = "operator", operation_id = "abandon_saga", params(("id" = Uuid, Path, description = "The saga's id.")), request_body = Reason, responses(
    (status = 202, body = SagaDetail), (status = 409, description = "The saga is not stuck, or cannot be read."),
))]
#[post("/operator/sagas/{id}/abandon")]
async fn abandon(
    Operator(operator): Operator,
    state: web::Data<State>,
    PathId(id): PathId,
    JsonBody(reason): JsonBody<Reason>,
) -> Result<HttpResponse, Problem> {
    operate(&state, id, Action::Abandon, &operator, &reason).await
}

async fn operate(
    state: &State,
    id: Uuid,
    action: Action,
    operator: &identity::Principal,
    reason: &Reason,
) -> Result<HttpResponse, Problem> {
    let by = By {
        operator: operator.id.to_string(),
        note: reason.note.as_str().to_owned(),
    };
    let mut tx = database::begin(&state.pool, "operate saga").await?;
    let tally = commands::operate(&mut tx, &state.sagas, id, action, &by).await?;
    tx.commit().await?;
    tally.count();
    state.waker.wake();
    Ok(HttpResponse::Accepted().json(detail(state, id).await?))
}

async fn connection(state: &State) -> Result<sqlx::pool::PoolConnection<sqlx::Postgres>, Problem> {
    state
        .pool
        .acquire()
        .await
        .map_err(|error| Error::from(error).into())
}

impl SagaPage {
    /// Makes a page of at most `limit` sagas. `found` has one more if there is a next page.
    fn new(found: Vec<Summary>, limit: i64) -> Self {
        let (found, next) = page_of(found, limit, |last| last.id);
        Self {
            sagas: found.into_iter().map(SagaView::from).collect(),
            next,
        }
    }
}
