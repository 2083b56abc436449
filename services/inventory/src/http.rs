//! The HTTP API: the catalogue for customers, prices for services, products and reservations for operators.

use actix_web::{HttpResponse, get, post, put, web};
use chassis::{
    Routes, database,
    http::{JsonBody, Note, PathId, Problem, QueryString, page_of, page_size},
    identity::{Anyone, Operator, Service},
};
use contracts::value::{Currency, MAX_LINES, Money, OrderId, OrderLine, Sku};
use holdfast::telemetry;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use time::OffsetDateTime;
use tracing::Instrument;
use utoipa::{IntoParams, OpenApi, ToSchema};

use crate::{
    commands,
    store::{self, Product},
};

/// The most units of one delivery, and the highest price in minor units.
const MOST: i64 = 1_000_000_000;

/// The state that the handlers share.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Holdfast: inventory", description = "Catalogue, prices, stock and reservations.", version = "1"),
    tags(
        (name = "catalogue", description = "The products, and their prices."),
        (name = "services", description = "For other services."),
    ),
)]
pub(crate) struct Api;

pub(crate) fn routes(routes: &mut Routes) {
    routes
        .service(list)
        .service(show)
        .service(prices)
        .service(put_product)
        .service(deliver)
        .service(show_reservation);
}

/// A product of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
struct ProductView {
    sku: Sku,
    name: String,
    unit_price: Money,
    /// The units that are free to be reserved.
    available: i64,
}

impl From<Product> for ProductView {
    fn from(product: Product) -> Self {
        let Product {
            sku,
            name,
            unit_price,
            stock,
        } = product;
        Self {
            sku,
            name,
            unit_price,
            available: stock.available,
        }
    }
}

/// A page of the catalogue.
#[derive(Debug, Serialize, ToSchema)]
struct Page {
    products: Vec<ProductView>,
    /// The value of `after` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Sku>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// The `next` of the previous page.
    #[param(inline)]
    after: Option<Sku>,
    /// The most products to return, from 1 to 200 (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

/// Returns a page of the catalogue, ordered by SKU.
#[utoipa::path(tag = "catalogue", operation_id = "list_products", params(ListQuery), responses((status = 200, body = Page)))]
#[get("/products")]
async fn list(
    _: Anyone,
    state: web::Data<State>,
    QueryString(query): QueryString<ListQuery>,
) -> Result<HttpResponse, Problem> {
    let limit = page_size(query.limit)?;
    let found = store::list(&state.pool, query.after.as_ref(), limit + 1).await?;
    let (products, next) = page_of(found, limit, |last| last.sku.clone());
    let products = products.into_iter().map(ProductView::from).collect();
    Ok(HttpResponse::Ok().json(Page { products, next }))
}

fn sku_in_path(path: &str) -> Result<Sku, Problem> {
    path.parse()
        .map_err(|_| Problem::not_found("there is no such product"))
}

/// Returns a product.
#[utoipa::path(
    tag = "catalogue",
    operation_id = "show_product",
    params(("sku" = inline(Sku), Path, description = "The product's SKU.")),
    responses((status = 200, body = ProductView)),
)]
#[get("/products/{sku}")]
async fn show(
    _: Anyone,
    state: web::Data<State>,
    sku: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let product = store::show(&state.pool, &sku_in_path(&sku)?).await?;
    let product = product.ok_or_else(|| Problem::not_found("there is no such product"))?;
    Ok(HttpResponse::Ok().json(ProductView::from(product)))
}

/// The products whose prices are requested.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PriceRequest {
    #[schema(min_items = 1, max_items = 100)]
    skus: Vec<Sku>,
}

/// The prices of the requested products that exist.
#[derive(Debug, Serialize, ToSchema)]
struct PriceResponse {
    prices: Vec<Price>,
}

/// The price of a product.
#[derive(Debug, Serialize, ToSchema)]
struct Price {
    sku: Sku,
    unit_price: Money,
}

/// Returns the prices of the requested products that exist.
#[utoipa::path(tag = "services", operation_id = "list_prices", request_body = PriceRequest, responses((status = 200, body = PriceResponse)))]
#[post("/prices")]
async fn prices(
    _: Service,
    state: web::Data<State>,
    JsonBody(request): JsonBody<PriceRequest>,
) -> Result<HttpResponse, Problem> {
    if !(1..=MAX_LINES).contains(&request.skus.len()) {
        return Err(Problem::invalid_field(
            "skus",
            format!("must name 1 to {MAX_LINES} products"),
        ));
    }
    let prices = store::prices(&state.pool, &request.skus)
        .instrument(telemetry::sql("SELECT", "product"))
        .await?;
    let prices = prices
        .into_iter()
        .map(|(sku, unit_price)| Price { sku, unit_price })
        .collect();
    Ok(HttpResponse::Ok().json(PriceResponse { prices }))
}

/// The name and the price of a product.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PutProduct {
    /// The name: 1 to 100 characters, without control characters.
    #[schema(value_type = String, min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    name: Note,
    /// The price in minor units, from 1 to 1000000000.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    price_minor: i64,
    currency: Currency,
}

/// Creates a product, or changes its name and price. Orders that are priced already keep their price.
#[utoipa::path(
    tag = "operator",
    params(("sku" = inline(Sku), Path, description = "The product's SKU.")),
    request_body = PutProduct,
    responses((status = 204, description = "The product has this name and price.")),
)]
#[put("/operator/products/{sku}")]
async fn put_product(
    _: Operator,
    state: web::Data<State>,
    sku: web::Path<String>,
    JsonBody(product): JsonBody<PutProduct>,
) -> Result<HttpResponse, Problem> {
    let sku: Sku = sku
        .parse()
        .map_err(|error| Problem::invalid_field("path sku", error))?;
    if product.name.as_str().chars().count() > 100 {
        return Err(Problem::invalid_field(
            "name",
            "must have 1 to 100 characters",
        ));
    }
    in_range("price_minor", product.price_minor)?;
    let mut tx = database::begin(&state.pool, "put product").await?;
    let price = Money::new(product.price_minor, product.currency);
    store::put_product(&mut tx, &sku, product.name.as_str(), price).await?;
    tx.commit().await?;
    Ok(HttpResponse::NoContent().finish())
}

fn in_range(field: &str, value: i64) -> Result<(), Problem> {
    if (1..=MOST).contains(&value) {
        Ok(())
    } else {
        Err(Problem::invalid_field(
            field,
            format!("must be from 1 to {MOST}"),
        ))
    }
}

/// A delivery to book.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Delivery {
    /// The delivery's name: a second request with the same name is the same delivery.
    delivery: Note,
    /// The units, from 1 to 1000000000.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    quantity: i64,
}

/// The result of a delivery.
#[derive(Debug, Serialize, ToSchema)]
struct Delivered {
    /// False if this delivery was booked before.
    new: bool,
}

/// Adds delivered units to a product's stock, once per delivery.
#[utoipa::path(
    tag = "operator",
    operation_id = "deliver_product",
    params(("sku" = inline(Sku), Path, description = "The product's SKU.")),
    request_body = Delivery,
    responses(
        (status = 200, body = Delivered),
        (status = 409, description = "A delivery of this name was made for another product or quantity."),
    ),
)]
#[post("/operator/products/{sku}/deliveries")]
async fn deliver(
    Operator(operator): Operator,
    state: web::Data<State>,
    sku: web::Path<String>,
    JsonBody(delivery): JsonBody<Delivery>,
) -> Result<HttpResponse, Problem> {
    let sku = sku_in_path(&sku)?;
    in_range("quantity", delivery.quantity)?;
    let mut tx = database::begin(&state.pool, "take delivery").await?;
    let key = delivery.delivery.as_str();
    let new =
        commands::deliver(&mut tx, key, &sku, delivery.quantity, operator.id.as_str()).await?;
    tx.commit().await?;
    Ok(HttpResponse::Ok().json(Delivered { new }))
}

/// The reservation of an order.
#[derive(Debug, Serialize, ToSchema)]
struct ReservationView {
    order_id: OrderId,
    /// One of reserved, rejected, sold, released, void and settled.
    state: &'static str,
    lines: Vec<OrderLine>,
    order_version: u32,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// Returns the reservation of an order.
#[utoipa::path(tag = "operator", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    (status = 200, body = ReservationView), (status = 404, description = "No message about this order has arrived."),
))]
#[get("/operator/reservations/{id}")]
async fn show_reservation(
    _: Operator,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let reservation = store::find(&state.pool, OrderId(id)).await?;
    let reservation =
        reservation.ok_or_else(|| Problem::not_found("no message about this order has arrived"))?;
    Ok(HttpResponse::Ok().json(ReservationView {
        order_id: reservation.order_id,
        state: store::state_name(&reservation.state),
        lines: reservation.lines,
        order_version: reservation.order_version,
        updated_at: reservation.updated_at,
    }))
}
