//! Methods that every resource has: `HEAD` wherever there is `GET`, `OPTIONS`, and a correct `Allow`.
//!
//! RFC 9110: `GET` and `HEAD` are the two methods that a server must have (9.1); `HEAD` is answered with the headers of
//! `GET` and no body (9.3.2); a 405 names what is allowed (15.5.6).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ResourceDef, ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderValue},
    },
    web::{Bytes, Data},
};
use utoipa::openapi::{OpenApi, path::PathItem};

use crate::http::Problem;

/// The known paths and their methods: those of the document, and pages that are not in it.
pub(super) struct Paths(Vec<(ResourceDef, Vec<&'static str>)>);

/// Pages that every service has.
const PAGES: [&str; 3] = ["/docs", "/docs/{page:.*}", "/openapi.json"];

impl Paths {
    /// Reads the paths from `openapi`; `pages` are patterns of further paths that have a `GET`.
    pub(super) fn new(openapi: &OpenApi, pages: &[&'static str]) -> Self {
        let documented = openapi.paths.paths.iter();
        let documented =
            documented.map(|(path, item)| (ResourceDef::new(path.as_str()), methods(item)));
        let pages = PAGES.iter().chain(pages);
        let pages = pages.map(|page| (ResourceDef::new(*page), vec!["GET", "HEAD", "OPTIONS"]));
        Self(documented.chain(pages).collect())
    }

    /// Returns the methods of a path; `None` if there is nothing at it.
    fn allowed(&self, path: &str) -> Option<&[&'static str]> {
        let known = self.0.iter().find(|(known, _)| known.is_match(path));
        known.map(|(_, methods)| methods.as_slice())
    }
}

/// Returns the methods of a documented path, with the `HEAD` and `OPTIONS` that follow from them.
fn methods(item: &PathItem) -> Vec<&'static str> {
    let operations = [
        ("GET", item.get.is_some()),
        ("HEAD", item.get.is_some() || item.head.is_some()),
        ("OPTIONS", true),
        ("PUT", item.put.is_some()),
        ("POST", item.post.is_some()),
        ("PATCH", item.patch.is_some()),
        ("DELETE", item.delete.is_some()),
    ];
    let there = operations.into_iter().filter(|(_, is_there)| *is_there);
    there.map(|(method, _)| method).collect()
}

/// Answers a request that no route takes: its method is not one of the path's, or its path is unknown.
pub(super) async fn nothing_here(request: HttpRequest) -> HttpResponse {
    let paths = request.app_data::<Data<Paths>>();
    let allowed = paths.and_then(|paths| paths.allowed(request.path()));
    // If the path has the method, its route refused the path by a pattern that the document does not show.
    let has = |allowed: &&[&str]| !allowed.contains(&request.method().as_str());
    if request.method() == Method::OPTIONS {
        let everything = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"];
        let allowed = if request.path() == "*" {
            Some(&everything[..])
        } else {
            allowed
        };
        if let Some(allowed) = allowed {
            let mut response = HttpResponse::NoContent().finish();
            name(&mut response, allowed);
            return response;
        }
    }
    let Some(allowed) = allowed.filter(has) else {
        return Problem::not_found("there is nothing at this path").error_response();
    };
    let detail = format!("this path has {}", allowed.join(", "));
    let mut response = Problem::method_not_allowed(detail).error_response();
    name(&mut response, allowed);
    response
}

fn name(response: &mut HttpResponse, allowed: &[&str]) {
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
}

/// Turns a `HEAD` request into the `GET` that it stands for, so that it takes the same route; returns true if it was a
/// `HEAD`.
pub(super) fn head_as_get(request: &mut ServiceRequest) -> bool {
    let is_head = request.method() == Method::HEAD;
    if is_head {
        request.head_mut().method = Method::GET;
    }
    is_head
}

/// Removes the body from a response to `HEAD`. Its length stays in the headers.
pub(super) fn without_body(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    response.map_body(|_, body| BoxBody::new(Bodiless(body.size())))
}

/// An empty body, in place of a body of a known size. A stream without an end is dropped with that body.
struct Bodiless(BodySize);

impl MessageBody for Bodiless {
    type Error = actix_web::Error;

    fn size(&self) -> BodySize {
        self.0
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Poll::Ready(None)
    }
}
