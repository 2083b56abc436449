//! The HTTP API: wallets for customers, deposits and payments for operators.

use actix_web::{HttpResponse, get, post, web};
use chassis::{
    Routes, database,
    http::{JsonBody, Note, PathId, Problem},
    identity::{Anyone, Operator},
};
use contracts::value::{Currency, CustomerId, Money, OrderId};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::OffsetDateTime;
use utoipa::{OpenApi, ToSchema};

use crate::{commands, store};

/// The largest amount of one deposit, in minor units.
const MOST: i64 = 1_000_000_000;

/// The state that the handlers share.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Holdfast: payment", description = "Wallet accounts, charges and refunds.", version = "1"),
    tags((name = "wallets", description = "The wallets that customers pay from.")),
)]
pub(crate) struct Api;

pub(crate) fn routes(routes: &mut Routes) {
    routes
        .service(show_wallet)
        .service(deposit)
        .service(show_payment);
}

/// A customer's wallet: one balance per currency.
#[derive(Debug, Serialize, ToSchema)]
struct Wallet {
    customer: CustomerId,
    balances: Vec<Money>,
}

/// Returns a customer's wallet.
#[utoipa::path(tag = "wallets", params(("customer" = inline(CustomerId), Path, description = "The wallet's owner.")), responses(
    (status = 200, body = Wallet), (status = 404, description = "There is no such wallet, or it is not yours."),
))]
#[get("/wallets/{customer}")]
async fn show_wallet(
    Anyone(principal): Anyone,
    state: web::Data<State>,
    customer: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    // Another customer's wallet is reported as missing: the response must not tell that it exists.
    let customer: Option<CustomerId> = customer
        .parse()
        .ok()
        .filter(|customer| principal.may_see(customer));
    let none = || Problem::not_found("there is no such wallet");
    let customer = customer.ok_or_else(none)?;
    let balances = store::balances(&state.pool, &customer).await?;
    if balances.is_empty() {
        return Err(none());
    }
    Ok(HttpResponse::Ok().json(Wallet { customer, balances }))
}

/// A deposit to book.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Deposit {
    /// The deposit's name: a second request with the same name is the same deposit.
    deposit: Note,
    /// The amount in minor units, from 1 to 1000000000.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    amount_minor: i64,
    currency: Currency,
}

/// The result of a deposit.
#[derive(Debug, Serialize, ToSchema)]
struct Deposited {
    /// False if this deposit was booked before.
    new: bool,
}

/// Pays money into a wallet, once per deposit; opens the wallet if there is none.
#[utoipa::path(
    tag = "operator",
    params(("customer" = inline(CustomerId), Path, description = "The wallet's owner.")),
    request_body = Deposit,
    responses(
        (status = 200, body = Deposited),
        (status = 409, description = "A deposit of this name was made for another customer or amount."),
    ),
)]
#[post("/operator/wallets/{customer}/deposits")]
async fn deposit(
    Operator(operator): Operator,
    state: web::Data<State>,
    customer: web::Path<String>,
    JsonBody(deposit): JsonBody<Deposit>,
) -> Result<HttpResponse, Problem> {
    let customer: CustomerId = customer
        .parse()
        .map_err(|error| Problem::invalid_field("path customer", error))?;
    if !(1..=MOST).contains(&deposit.amount_minor) {
        return Err(Problem::invalid_field(
            "amount_minor",
            format!("must be from 1 to {MOST}"),
        ));
    }
    let amount = Money::new(deposit.amount_minor, deposit.currency);
    let mut tx = database::begin(&state.pool, "deposit").await?;
    let key = deposit.deposit.as_str();
    let new = commands::deposit(&mut tx, key, &customer, amount, operator.id.as_str()).await?;
    tx.commit().await?;
    Ok(HttpResponse::Ok().json(Deposited { new }))
}

/// The payment of an order.
#[derive(Debug, Serialize, ToSchema)]
struct PaymentView {
    order_id: OrderId,
    /// One of charging, captured, declined, refunding, refunded, void and settled.
    state: &'static str,
    customer: Option<CustomerId>,
    amount: Option<Money>,
    order_version: u32,
    /// The number of calls of the card processor since the payment entered its state.
    attempts: i32,
    /// The error of the last call that got no definite answer, or the reason for which no call can be made.
    last_error: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Returns the payment of an order.
#[utoipa::path(tag = "operator", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    (status = 200, body = PaymentView), (status = 404, description = "No message about this order has arrived."),
))]
#[get("/operator/payments/{id}")]
async fn show_payment(
    _: Operator,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let payment = store::find(&state.pool, OrderId(id)).await?;
    let payment =
        payment.ok_or_else(|| Problem::not_found("no message about this order has arrived"))?;
    Ok(HttpResponse::Ok().json(PaymentView {
        order_id: payment.order_id,
        state: store::state_name(payment.state),
        customer: payment.terms.as_ref().map(|terms| terms.customer.clone()),
        amount: payment.terms.as_ref().map(|terms| terms.amount),
        order_version: payment.order_version,
        attempts: payment.attempts,
        last_error: payment.last_error,
        updated_at: payment.updated_at,
    }))
}
