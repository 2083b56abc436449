//! Drills. In demo mode alone.

use actix_web::{HttpResponse, get, post, web};
use chassis::http::Problem;
use load_tests::drill::Drill;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    State,
    visitor::{Guarded, Meant, Visitor},
};

/// What there is to drill.
#[derive(Debug, Serialize, ToSchema)]
struct DrillView {
    name: &'static str,
    /// What it shows, in a sentence or two.
    what: &'static str,
}

/// What there is to drill.
#[utoipa::path(tag = "demo", operation_id = "list_drills", responses(Guarded, (status = 200, body = Vec<DrillView>)))]
#[get("/room/drills")]
pub(super) async fn list(_: Visitor) -> HttpResponse {
    let drills = Drill::all().iter();
    let drills = drills.map(|drill| DrillView {
        name: drill.name(),
        what: drill.what(),
    });
    HttpResponse::Ok().json(drills.collect::<Vec<_>>())
}

/// Begins a drill: it is told in the stream, as `drill`. One at a time.
#[utoipa::path(
    tag = "demo",
    operation_id = "begin_drill",
    params(("name" = String, Path, description = "The drill's name.")),
    request_body = Meant,
    responses(
        Guarded,
        (status = 202, description = "It begins."),
        (status = 409, description = "Another drill is not over yet."),
    ),
)]
#[post("/room/drills/{name}")]
pub(super) async fn begin(
    _: Visitor,
    state: web::Data<State>,
    name: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let drill = Drill::all().iter().find(|drill| drill.name() == *name);
    let drill = drill.ok_or_else(|| Problem::not_found(format!("there is no drill {name:?}")))?;
    let order = state.drills.as_ref();
    let order = order.ok_or_else(|| Problem::not_found("drills are for demo mode alone"))?;
    if !order.place(*drill) {
        return Err(Problem::conflict("another drill is not over yet"));
    }
    Ok(HttpResponse::Accepted().finish())
}
