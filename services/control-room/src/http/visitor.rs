//! The visitors of the room, and their tokens.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use chassis::{http::Problem, identity::Operator};
use utoipa::{IntoResponses, ToSchema};

use super::{State, doors};

/// A visitor who may use the room, with the token under which the services are called.
#[derive(Debug)]
pub(super) struct Visitor {
    pub(super) token: String,
}

/// The response of every operation to a page of another site.
#[derive(IntoResponses)]
#[response(
    status = 403,
    description = "A page of another site may not use the control room."
)]
#[allow(dead_code, reason = "it stands in the document alone")]
pub(super) struct Guarded;

/// Any JSON. It is not read: only its content type matters, which keeps pages of other sites from sending it.
#[derive(ToSchema)]
#[schema(value_type = Object)]
#[allow(dead_code, reason = "it stands in the document alone")]
pub(super) struct Meant(());

impl FromRequest for Visitor {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let Some(state) = request.app_data::<web::Data<State>>().cloned() else {
            let problem = Problem::internal("the room has no state");
            return Box::pin(std::future::ready(Err(problem)));
        };
        if let Err(problem) = doors::check(request, &state.hosts) {
            return Box::pin(std::future::ready(Err(problem)));
        }
        let operator = (!state.demo).then(|| Operator::from_request(request, payload));
        let shown = request.headers().get(header::AUTHORIZATION);
        let shown = shown
            .and_then(|shown| shown.to_str().ok())
            .map(str::to_owned);
        Box::pin(async move {
            let Some(operator) = operator else {
                let token = state.services.own_token().await?;
                return Ok(Self { token });
            };
            operator.await?;
            // Invariant: the extractor has just read this header.
            let shown = shown.unwrap_or_default();
            let token = shown.split_once(' ').map(|(_, token)| token.trim());
            Ok(Self {
                token: token.unwrap_or_default().to_owned(),
            })
        })
    }
}
