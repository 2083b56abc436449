//! The HTTP API: the page, its data, and its actions.

mod break_it;
mod doors;
mod drills;
mod live;
mod operator;
mod orders;
mod page;
mod sagas;
mod visitor;

use std::sync::Arc;

use actix_web::{HttpResponse, http::StatusCode, http::header};
use chassis::{Routes, http::Problem};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::{OpenApi, openapi::security::SecurityRequirement};

use crate::{
    client::{Auditor, RawResponse, Services},
    commands::{DrillBox, Room},
    config::{Hosts, Link},
};

/// The state that the handlers share.
pub(crate) struct State {
    pub(crate) room: Arc<Room>,
    pub(crate) services: Arc<Services>,
    pub(crate) auditor: Arc<Auditor>,
    /// The names under which browsers may reach the room.
    pub(crate) hosts: Hosts,
    /// True in demo mode: visitors need no token, and may place orders and break things.
    pub(crate) demo: bool,
    pub(crate) environment: String,
    pub(crate) trace_url: Option<String>,
    pub(crate) links: Vec<Link>,
    /// A permit for each stream that may be open.
    pub(crate) watchers: Arc<Semaphore>,
    /// The mailbox for drills; `None` without demo mode.
    pub(crate) drills: Option<DrillBox>,
    /// Cancelled when the room closes.
    pub(crate) closing: CancellationToken,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast: control room",
        description = "The front page and its data. In demo mode requests need no token, otherwise an operator's.",
        version = "1",
    ),
    tags((name = "room", description = "The data of the front page.")),
)]
struct Api;

/// The routes of pages for people, which the OpenAPI document leaves out.
pub(crate) const PAGES: [&str; 2] = ["/", "/assets/{file:.*}"];

/// Returns the head of the OpenAPI document. In demo mode operations need no token.
pub(crate) fn api(demo: bool) -> utoipa::openapi::OpenApi {
    let mut api = Api::openapi();
    api.security = demo.then(|| vec![SecurityRequirement::default()]);
    api
}

pub(crate) fn routes(routes: &mut Routes, demo: bool) {
    routes
        .undocumented(page::index)
        .undocumented(page::asset)
        .service(page::config)
        .service(live::live)
        .service(operator::parked)
        .service(operator::show_parked)
        .service(operator::edit_parked)
        .service(operator::end_parked)
        .service(operator::stuck)
        .service(operator::end_stuck)
        .service(operator::invariants)
        .service(sagas::stuck_sagas)
        .service(sagas::end_saga)
        .service(sagas::show_saga)
        .service(sagas::of_order);
    // These routes exist only in demo mode.
    if demo {
        routes
            .service(orders::place)
            .service(orders::cancel)
            .service(break_it::show_knobs)
            .service(break_it::turn_knobs)
            .service(break_it::pause_queue)
            .service(break_it::crash)
            .service(break_it::poison)
            .service(drills::list)
            .service(drills::begin);
    }
    routes.service(orders::show);
}

/// Turns a service's response into the room's, with the same status, Retry-After, content type and body.
fn passed(answer: RawResponse) -> Result<HttpResponse, Problem> {
    let status = StatusCode::from_u16(answer.status).map_err(Problem::internal)?;
    let mut response = HttpResponse::build(status);
    if let Some(after) = answer.retry_after {
        response.insert_header((header::RETRY_AFTER, after.as_secs().to_string()));
    }
    if let Some(kind) = answer.content_type {
        response.insert_header((header::CONTENT_TYPE, kind));
    }
    Ok(response.body(answer.body))
}
