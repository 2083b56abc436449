//! The API.

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

/// The most units that one delivery may bring, and the highest price in minor units.
const MOST: i64 = 1_000_000_000;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) pool: PgPool,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Holdfast: inventory", description = "Catalogue, prices, stock and reservations.", version = "1"),
    tags(
        (name = "catalogue", description = "What there is to order, and what it costs."),
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

/// A product.
#[derive(Debug, Serialize, ToSchema)]
struct ProductView {
    sku: Sku,
    name: String,
    unit_price: Money,
    /// Units that anyone may have now.
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
    /// What to send as `after` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Sku>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// The `next` of the page before.
    #[param(inline)]
    after: Option<Sku>,
    /// How many (default 50).
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<i64>,
}

/// The catalogue, by SKU.
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

/// One product.
#[utoipa::path(
    tag = "catalogue",
    operation_id = "show_product",
    params(("sku" = inline(Sku), Path, description = "Which product.")),
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

/// Products whose prices are asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PriceRequest {
    #[schema(min_items = 1, max_items = 100)]
    skus: Vec<Sku>,
}

/// The prices of those products that there are.
#[derive(Debug, Serialize, ToSchema)]
struct PriceResponse {
    prices: Vec<Price>,
}

/// A price.
#[derive(Debug, Serialize, ToSchema)]
struct Price {
    sku: Sku,
    unit_price: Money,
}

/// The prices of those of these products that there are; for services.
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

/// What a product is to be called, and to cost.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PutProduct {
    /// 1 to 100 characters, and no control characters.
    #[schema(value_type = String, min_length = 1, max_length = 100, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
    name: Note,
    /// In minor units, from 1 to 1000000000.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    price_minor: i64,
    currency: Currency,
}

/// Creates a product, or changes its name and price. Orders that are priced already keep their price.
#[utoipa::path(
    tag = "operator",
    params(("sku" = inline(Sku), Path, description = "Which product.")),
    request_body = PutProduct,
    responses((status = 204, description = "The product is as asked.")),
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
            "a name has 1 to 100 characters",
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

/// Units that are delivered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Delivery {
    /// Names this delivery: sent again, it is the same one.
    delivery: Note,
    /// From 1 to 1000000000.
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    quantity: i64,
}

/// A delivery, as it is booked.
#[derive(Debug, Serialize, ToSchema)]
struct Delivered {
    /// False: this delivery had come before.
    new: bool,
}

/// Takes delivered units in, once per delivery.
#[utoipa::path(
    tag = "operator",
    operation_id = "deliver_product",
    params(("sku" = inline(Sku), Path, description = "Which product.")),
    request_body = Delivery,
    responses(
        (status = 200, body = Delivered),
        (status = 409, description = "A delivery of this name was of another product or quantity."),
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

/// What became of an order here.
#[derive(Debug, Serialize, ToSchema)]
struct ReservationView {
    order_id: OrderId,
    /// reserved, rejected, sold, released, void or settled.
    state: &'static str,
    lines: Vec<OrderLine>,
    order_version: u32,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// What became of an order here.
#[utoipa::path(tag = "operator", params(("id" = Uuid, Path, description = "The order's id.")), responses(
    (status = 200, body = ReservationView), (status = 404, description = "Inventory has not heard of this order."),
))]
#[get("/operator/reservations/{id}")]
async fn show_reservation(
    _: Operator,
    state: web::Data<State>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    let reservation = store::find(&state.pool, OrderId(id)).await?;
    let reservation =
        reservation.ok_or_else(|| Problem::not_found("nothing was heard of this order here"))?;
    Ok(HttpResponse::Ok().json(ReservationView {
        order_id: reservation.order_id,
        state: store::state_name(&reservation.state),
        lines: reservation.lines,
        order_version: reservation.order_version,
        updated_at: reservation.updated_at,
    }))
}
