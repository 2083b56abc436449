//! The customers' routes.

use actix_web::{HttpRequest, HttpResponse, get, http::header, post, web};
use chassis::{
    database,
    http::{IdempotencyKey, JsonBody, PathId, Problem, QueryString, deadline_of, page_size},
    identity::{Anyone, Customer, Principal, Role},
    trace::OrderFacts,
};
use contracts::{
    order::{CancelReason, Customer as OrderCustomer},
    value::{CustomerId, Lines, OrderId, PaymentMethod, Sku},
};
use holdfast::{deadline::Deadline, failpoint, telemetry};
use metrics::counter;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tracing::{Instrument, Span};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{
    State,
    view::{Coordination, EntryView, OrderPage, OrderView},
};
use crate::{
    client::Prices,
    commands::{self, Keyed},
    domain::pricing::price,
    store::{self, Answered, Filter, NewOrder, StoredOrder},
};

/// The order to place.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PlaceOrder {
    /// The way in which the services agree on the order's end.
    #[serde(default)]
    coordination: Coordination,
    lines: Lines,
    payment: PaymentMethod,
}

impl PlaceOrder {
    /// Returns the hash of what was parsed, so that spaces and the order of fields do not make another request.
    fn hash(&self) -> Result<Vec<u8>, Problem> {
        let parsed = serde_json::to_vec(self).map_err(Problem::internal)?;
        Ok(Sha256::digest(parsed).to_vec())
    }

    /// Returns the customer's order, at inventory's prices.
    async fn priced(
        self,
        customer: &Principal,
        prices: &Prices,
        deadline: Deadline,
    ) -> Result<NewOrder, Problem> {
        let skus: Vec<&Sku> = self.lines.as_slice().iter().map(|line| &line.sku).collect();
        let priced = prices.of(&skus, deadline).await?;
        let (lines, amount) = price(&self.lines, &priced.prices)
            .map_err(|error| Problem::invalid_field(error.field(), error))?;
        Ok(NewOrder {
            id: OrderId::new(),
            customer: OrderCustomer {
                id: customer.id.clone(),
                email: customer.email.clone(),
            },
            lines,
            amount,
            prices_as_of: priced.as_of,
            payment: self.payment,
        })
    }
}

/// Places an order. A repetition under the same Idempotency-Key is the same order, and gets the same response.
#[utoipa::path(
    tag = "orders",
    operation_id = "place_order",
    params(("Idempotency-Key" = inline(IdempotencyKey), Header, description = "New for each order.")),
    request_body(content = PlaceOrder, example = json!({
        "lines": [{ "sku": "TEA-EARL-GREY", "quantity": 2 }], "payment": { "method": "wallet" }
    })),
    responses(
        (
            status = 202, description = "The order is accepted.", body = OrderView,
            headers(("Location" = String, description = "The order's path.")),
        ),
    ),
)]
#[post("/orders")]
pub(super) async fn place(
    Customer(principal): Customer,
    request: HttpRequest,
    state: web::Data<State>,
    JsonBody(order): JsonBody<PlaceOrder>,
) -> Result<HttpResponse, Problem> {
    let key = IdempotencyKey::of(&request)?;
    let request_hash = order.hash()?;
    let keyed = Keyed {
        customer: &principal.id,
        key: key.as_str(),
        request_hash: &request_hash,
    };
    if let Some(before) = commands::answered(&state.pool, keyed)
        .instrument(telemetry::sql("SELECT", "idempotency_key"))
        .await?
    {
        return Ok(accepted(&before));
    }

    let coordination = order.coordination.into();
    let order = order
        .priced(&principal, &state.prices, deadline_of(&request))
        .await?;
    OrderFacts::of(order.id)
        .amount(order.amount)
        .items(order.lines.iter().map(|line| line.quantity.get()))
        .payment(&order.payment)
        .describe(&Span::current());

    let mut tx = database::begin(&state.pool, "place order").await?;
    let stored = commands::place(&mut tx, &order, coordination, &state.waiting).await?;
    let answer = Answered {
        request_hash: request_hash.clone(),
        order_id: order.id,
        response: serde_json::to_value(OrderView::from(&stored)).map_err(Problem::internal)?,
    };
    if let Some(before) = commands::answer(&mut tx, keyed, &answer).await? {
        tx.rollback().await?;
        return Ok(accepted(&before));
    }
    tx.commit().await?;
    failpoint!("order.after_commit");
    state.waker.wake();
    counter!("orders_accepted_total").increment(1);
    Ok(accepted(&answer))
}

fn accepted(answer: &Answered) -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((header::LOCATION, format!("/orders/{}", answer.order_id)))
        .json(&answer.response)
}

/// Returns an order.
#[utoipa::path(tag = "orders", operation_id = "show_order", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    (status = 200, body = OrderView), (status = 404, description = "There is no such order, or it is not yours."),
))]
#[get("/orders/{id}")]
pub(super) async fn show(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let stored = store::find(&state.pool, OrderId(id))
        .instrument(telemetry::sql("SELECT", "orders"))
        .await?;
    Ok(HttpResponse::Ok().json(OrderView::from(&visible(stored, &principal)?)))
}

/// Returns the order if this principal may see it. Another customer's order is missing: the response must not tell that
/// it exists.
fn visible(stored: Option<StoredOrder>, principal: &Principal) -> Result<StoredOrder, Problem> {
    stored
        .filter(|stored| principal.may_see(&stored.new.customer.id))
        .ok_or_else(|| Problem::not_found("there is no such order"))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only orders of this customer; a customer sees only its own.
    #[param(inline)]
    customer: Option<CustomerId>,
    /// The `next` of the previous page.
    before: Option<Uuid>,
    /// The most orders to return (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

/// Lists orders, newest first.
#[utoipa::path(tag = "orders", operation_id = "list_orders", params(ListQuery), responses((status = 200, body = OrderPage)))]
#[get("/orders")]
pub(super) async fn list(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    QueryString(query): QueryString<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let customer = match (principal.role, query.customer) {
        (Role::Customer, None) => Some(principal.id),
        (Role::Customer, Some(customer)) if customer != principal.id => {
            return Err(Problem::forbidden("a customer lists its own orders"));
        }
        (_, customer) => customer,
    };
    page(&state, customer, false, query.before, query.limit).await
}

/// Responds with a page of orders.
pub(super) async fn page(
    state: &State,
    customer: Option<CustomerId>,
    stuck: bool,
    before: Option<Uuid>,
    limit: Option<i64>,
) -> Result<HttpResponse, Problem> {
    let limit = page_size(limit)?;
    let filter = Filter {
        customer,
        stuck,
        before: before.map(OrderId),
        limit: limit + 1,
    };
    let stored = store::list(&state.pool, &filter).await?;
    Ok(HttpResponse::Ok().json(OrderPage::new(stored, limit)))
}

/// Cancels an order, also after it was confirmed. A repeated cancel changes nothing.
#[utoipa::path(tag = "orders", operation_id = "cancel_order", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    (status = 202, description = "The order is being undone, or is undone already.", body = OrderView),
    (status = 404, description = "There is no such order, or it is not yours."),
    (status = 409, description = "The order cannot be cancelled any more."),
))]
#[post("/orders/{id}/cancel")]
pub(super) async fn cancel(
    Customer(principal): Customer,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    OrderFacts::of(OrderId(id)).describe(&Span::current());
    visible(store::find(&state.pool, OrderId(id)).await?, &principal)?;
    let mut tx = database::begin(&state.pool, "cancel order").await?;
    let stored =
        commands::cancel(&mut tx, OrderId(id), CancelReason::Customer, &state.waiting).await?;
    tx.commit().await?;
    state.waker.wake();
    Ok(HttpResponse::Accepted().json(OrderView::from(&stored)))
}

/// Returns the messages about an order, in the sequence in which this service received them.
#[utoipa::path(tag = "orders", operation_id = "show_timeline", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    (status = 200, body = Vec<EntryView>), (status = 404, description = "There is no such order, or it is not yours."),
))]
#[get("/orders/{id}/timeline")]
pub(super) async fn timeline(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    visible(store::find(&state.pool, OrderId(id)).await?, &principal)?;
    let entries = store::timeline(&state.pool, OrderId(id)).await?;
    let in_full = principal.role == Role::Operator;
    let entries: Vec<_> = entries
        .into_iter()
        .map(|entry| EntryView::new(entry, in_full))
        .collect();
    Ok(HttpResponse::Ok().json(entries))
}
