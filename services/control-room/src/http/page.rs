//! The page, embedded in the binary, and its configuration.

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
    client::{FaultTargets, SERVICES},
    config::Link,
};

/// Every file in `assets`: name and content. `build.rs` generates the list.
static ASSETS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The content security policy: nothing from other origins, nothing inline, and no framing.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    name: &'static str,
    content: &'static [u8],
    tag: String,
}

/// The files, each with an entity tag, which is a hash of its content.
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

/// Returns the page.
#[get("/")]
pub(super) async fn index(_: Meant, request: HttpRequest) -> Result<HttpResponse, Problem> {
    file(&request, "index.html")
}

/// Returns a file of the page: a script, the style sheet or the icon.
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
        // Browsers may keep it, but must revalidate it each time: a new binary serves a new page at once.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // No referrer for other sites. Requests to the room itself name the page, also as their `Origin`.
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

/// The configuration of the page.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConfigView {
    /// True in demo mode: orders may be placed, and things may be broken.
    demo: bool,
    environment: String,
    links: Vec<Link>,
    /// The URL of a trace's page, with {trace_id} in place of the id; null for no link.
    trace_url: Option<String>,
    products: Vec<Product>,
    services: Vec<ServiceView>,
}

/// A product that can be ordered.
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

/// A service, with the queues and failpoints by which it can be broken.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceView {
    name: &'static str,
    queues: Vec<String>,
    /// The failpoints at which it can be made to crash; none if its build has no failpoints.
    failpoints: Vec<String>,
}

/// Returns the configuration of the page. A service that does not answer is listed without queues and failpoints.
#[utoipa::path(tag = "room", operation_id = "show_config", security(()), responses((status = 200, body = ConfigView)))]
#[get("/room/config")]
pub(super) async fn config(_: Meant, state: web::Data<State>) -> HttpResponse {
    let (products, targets) = if state.demo {
        let targets = SERVICES.map(|service| state.services.fault_targets(service));
        let products = state
            .services
            .read::<Catalogue>("inventory", "/products?limit=100");
        let (products, targets) = tokio::join!(products, join_all(targets));
        let products = products.map(|catalogue| catalogue.products);
        let targets = targets.into_iter().map(Result::unwrap_or_default).collect();
        (products.unwrap_or_default(), targets)
    } else {
        (Vec::new(), vec![FaultTargets::default(); SERVICES.len()])
    };
    let services = SERVICES.into_iter().zip(targets);
    HttpResponse::Ok().json(ConfigView {
        demo: state.demo,
        environment: state.environment.clone(),
        links: state.links.clone(),
        trace_url: state.trace_url.clone(),
        products,
        services: services
            .map(|(name, targets)| ServiceView {
                name,
                queues: targets.queues,
                failpoints: if targets.failpoints_compiled_in {
                    targets.failpoints
                } else {
                    Vec::new()
                },
            })
            .collect(),
    })
}
