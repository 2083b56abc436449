//! Who asks the room, and whether the request is meant.
//!
//! In demo mode anyone who reaches the room may use it: it listens on the loopback interface, or behind a front door
//! that does. What guards it then is the browser: a page of another origin can make a visitor's browser send a request,
//! but not one with `Content-Type: application/json` (that takes a preflight, which is not answered), nor one that says
//! `Sec-Fetch-Site: same-origin`.

use std::{future::Future, pin::Pin};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::{Method, header},
    web,
};
use chassis::{http::Problem, identity::Operator};

use super::State;

/// Whoever may use the room, and the token under which the services are asked for it.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) token: String,
}

impl FromRequest for Visitor {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if let Err(problem) = is_meant(request) {
            return Box::pin(std::future::ready(Err(problem)));
        }
        let Some(state) = request.app_data::<web::Data<State>>().cloned() else {
            let problem = Problem::internal("the room has no state");
            return Box::pin(std::future::ready(Err(problem)));
        };
        let operator = (!state.demo).then(|| Operator::from_request(request, payload));
        let shown = header_of(request, "authorization").map(str::to_owned);
        Box::pin(async move {
            let Some(operator) = operator else {
                let token = state.services.own_token().await?;
                return Ok(Self { token });
            };
            operator.await?;
            // Invariant: the extractor has just read it.
            let shown = shown.unwrap_or_default();
            let token = shown.split_once(' ').map(|(_, token)| token.trim());
            Ok(Self {
                token: token.unwrap_or_default().to_owned(),
            })
        })
    }
}

/// Refuses what another site made a browser send.
fn is_meant(request: &HttpRequest) -> Result<(), Problem> {
    if let Some(site) = header_of(request, "sec-fetch-site")
        && !["same-origin", "none"].contains(&site)
    {
        return Err(Problem::forbidden(
            "a page of another site may not use the control room",
        ));
    }
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    if changes && request.content_type() != "application/json" {
        return Err(Problem::unsupported_media_type(
            "what changes something must be sent as application/json",
        ));
    }
    Ok(())
}

fn header_of<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    let name = header::HeaderName::try_from(name).ok()?;
    request.headers().get(name)?.to_str().ok()
}
