//! The page itself, embedded, and what it needs to know first.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{self, HeaderName},
    web,
};
use chassis::http::Problem;
use contracts::value::{Money, Sku};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{State, doors::Meant};
use crate::{
    client::{SERVICES, Stage},
    config::Link,
};

/// Everything in `assets`: name and content. `build.rs` makes the list.
static ASSETS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// Nothing from elsewhere, nothing inline, and nobody may frame it.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    name: &'static str,
    content: &'static [u8],
    tag: String,
}

/// The files, each with a tag that follows from its content.
static FILES: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let file = |(name, content): &(&'static str, &'static [u8])| {
        let mut hash = DefaultHasher::new();
        content.hash(&mut hash);
        Asset {
            name,
            content,
            tag: format!("\"{:016x}\"", hash.finish()),
        }
    };
    ASSETS.iter().map(file).collect()
});

/// The page.
#[get("/")]
pub(super) async fn index(_: Meant, request: HttpRequest) -> Result<HttpResponse, Problem> {
    file(&request, "index.html")
}

/// What belongs to it.
#[get("/assets/{file:.*}")]
pub(super) async fn asset(
    _: Meant,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    file(&request, &name)
}

fn file(request: &HttpRequest, name: &str) -> Result<HttpResponse, Problem> {
    let file = FILES.iter().find(|file| file.name == name);
    let file = file.ok_or_else(|| Problem::not_found(format!("the page has no file {name:?}")))?;
    let unchanged = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|tags| tags.to_str().ok())
        .is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == file.tag));
    let mut response = if unchanged {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    response
        .insert_header((header::ETAG, file.tag.as_str()))
        // Kept, and asked for each time whether it still is what it was: a new binary is a new page at once.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Nothing to other sites; to us the page names itself, also as the `Origin` of what it sends.
        .insert_header((header::REFERRER_POLICY, "same-origin"))
        .insert_header((
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ))
        .insert_header((
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ));
    if unchanged {
        return Ok(response.finish());
    }
    Ok(response.content_type(kind(name)).body(file.content))
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        _ => "application/octet-stream",
    }
}

/// What the page needs to know first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConfigView {
    /// Whether things may be broken, and orders placed.
    demo: bool,
    environment: String,
    links: Vec<Link>,
    /// The page of a trace, with {trace_id} where its id goes.
    trace_url: Option<String>,
    products: Vec<Product>,
    services: Vec<ServiceView>,
}

/// A product.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct Product {
    sku: Sku,
    name: String,
    #[serde(rename(deserialize = "unit_price"))]
    price: Money,
}

#[derive(Deserialize)]
struct Catalogue {
    products: Vec<Product>,
}

/// A service, and what can be broken in it.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceView {
    name: &'static str,
    queues: Vec<String>,
    /// Where it can be made to crash; none if the build has no failpoints.
    failpoints: Vec<String>,
}

/// What the page needs to know first. A service that does not answer has nothing to break.
#[utoipa::path(tag = "room", operation_id = "show_config", security(()), responses((status = 200, body = ConfigView)))]
#[get("/room/config")]
pub(super) async fn config(_: Meant, state: web::Data<State>) -> HttpResponse {
    let (products, stages) = if state.demo {
        let stages = SERVICES.map(|service| state.services.stage(service));
        let products = state
            .services
            .read::<Catalogue>("inventory", "/products?limit=100");
        let (products, stages) = tokio::join!(products, join_all(stages));
        let products = products.map(|catalogue| catalogue.products);
        let stages = stages.into_iter().map(Result::unwrap_or_default).collect();
        (products.unwrap_or_default(), stages)
    } else {
        (Vec::new(), vec![Stage::default(); SERVICES.len()])
    };
    let services = SERVICES.into_iter().zip(stages);
    HttpResponse::Ok().json(ConfigView {
        demo: state.demo,
        environment: state.environment.clone(),
        links: state.links.clone(),
        trace_url: state.trace_url.clone(),
        products,
        services: services
            .map(|(name, stage)| ServiceView {
                name,
                queues: stage.queues,
                failpoints: if stage.failpoints_compiled_in {
                    stage.failpoints
                } else {
                    Vec::new()
                },
            })
            .collect(),
    })
}
