//! The HTTP API: the routes, and what their handlers share.

mod operator;
mod orders;
mod view;

use chassis::Routes;
use holdfast::outbox::Waker;
use sqlx::PgPool;
use utoipa::OpenApi;

use crate::{client::Prices, config::WaitingSettings};

/// The state that the handlers share.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
    pub(crate) waker: Waker,
    pub(crate) prices: Prices,
    pub(crate) waiting: WaitingSettings,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast: order",
        description = "Takes orders and carries each to exactly one end. Get a token with `cargo xtask token alice`.",
        version = "1",
    ),
    tags((name = "orders", description = "Customers place, follow and cancel their orders.")),
)]
pub(crate) struct Api;

pub(crate) fn routes(routes: &mut Routes) {
    routes
        .service(orders::place)
        .service(orders::list)
        .service(orders::timeline)
        .service(orders::cancel)
        .service(orders::show)
        .service(operator::list)
        .service(operator::cancel)
        .service(operator::resume)
        .service(operator::settle)
        .service(operator::show);
}
