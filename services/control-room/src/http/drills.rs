//! Drills, only in demo mode.

use actix_web::{HttpResponse, get, post, web};
use chassis::http::Problem;
use load_tests::drill::Drill;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    State,
    visitor::{Guarded, Meant, Visitor},
};

/// A drill that can be started.
#[derive(Debug, Serialize, ToSchema)]
struct DrillView {
    name: &'static str,
    /// A description, in a sentence or two.
    what: &'static str,
}

/// Returns the drills that can be started.
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

/// Starts a drill, one at a time. The stream reports it as `drill`.
#[utoipa::path(
    tag = "demo",
    operation_id = "begin_drill",
    params(("name" = String, Path, description = "The drill's name.")),
    request_body = Meant,
    responses(
        Guarded,
        (status = 202, description = "The drill is started."),
        (status = 409, description = "Another drill is still running."),
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
    let order = order.ok_or_else(|| Problem::not_found("drills exist only in demo mode"))?;
    if !order.place(*drill) {
        return Err(Problem::conflict("another drill is still running"));
    }
    Ok(HttpResponse::Accepted().finish())
}
