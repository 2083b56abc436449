//! The caller of a request, and its role.
//!
//! Every endpoint except health, metrics and documentation needs a bearer token: a JWT, signed with Ed25519 (`EdDSA`,
//! and nothing else), by a key of the configured JWKS, for the configured audience and from the configured issuer. A
//! token has one [`Role`]. The extractors [`Customer`], [`Operator`], [`Service`] and [`Anyone`] let a handler declare
//! the roles that may call it.

mod development;
mod ed25519;
mod keys;
mod verifier;

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web};
use contracts::value::{CustomerId, Email};
pub use development::{DevelopmentKey, InvalidKey};
use serde::{Deserialize, Serialize};
pub use verifier::{ConfigurationError, Verifier};

use crate::http::Problem;

/// The role that a token gives to its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A customer, who sees and changes only its own data.
    Customer,
    /// An operator, who uses the operator APIs, and sees everything.
    Operator,
    /// Another service of this system.
    Service,
}

/// The bearer of a token: the caller of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The subject of the token.
    #[serde(rename = "sub")]
    pub id: CustomerId,
    /// The bearer's role.
    pub role: Role,
    /// The address for mails to the bearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
}

impl Principal {
    /// Returns whether the bearer may see the data of `customer`.
    pub fn may_see(&self, customer: &CustomerId) -> bool {
        match self.role {
            Role::Customer => self.id == *customer,
            Role::Operator => true,
            Role::Service => false,
        }
    }
}

/// Makes an extractor that lets in the given roles.
macro_rules! extractor {
    ($(#[$meta:meta])* $name:ident: $($role:ident)|+) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Principal);

        impl FromRequest for $name {
            type Error = Problem;
            type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                let request = request.clone();
                Box::pin(async move {
                    let principal = authenticate(&request).await?;
                    match principal.role {
                        $(Role::$role)|+ => Ok(Self(principal)),
                        #[allow(unreachable_patterns, reason = "one of the extractors lets in every role")]
                        role => Err(Problem::forbidden(format!("this is not for the role {role:?}").to_lowercase())),
                    }
                })
            }
        }
    };
}

extractor! {
    /// The bearer of a customer's token.
    Customer: Customer
}
extractor! {
    /// The bearer of an operator's token.
    Operator: Operator
}
extractor! {
    /// The bearer of a service's token.
    Service: Service
}
extractor! {
    /// The bearer of a customer's token, who sees its own data, or of an operator's, who sees everything.
    Anyone: Customer | Operator
}

async fn authenticate(request: &HttpRequest) -> Result<Principal, Problem> {
    let verifier = request
        .app_data::<web::Data<Verifier>>()
        .ok_or_else(|| Problem::internal("the server has no verifier"))?;
    let token = bearer_token(request.headers())?
        .ok_or_else(|| Problem::unauthenticated("send a header Authorization: Bearer TOKEN"))?;
    verifier.verify(token).await
}

/// Returns the bearer token of a request. Fails if there are several, because it is undefined which one counts.
pub(crate) fn bearer_token(headers: &header::HeaderMap) -> Result<Option<&str>, Problem> {
    let mut shown = headers.get_all(header::AUTHORIZATION);
    let (shown, another) = (shown.next(), shown.next());
    if another.is_some() {
        return Err(Problem::bad_request(
            "the header Authorization is given more than once",
        ));
    }
    // The scheme is case-insensitive (RFC 9110, 11.1).
    let credentials = shown.and_then(|shown| shown.to_str().ok()?.split_once(' '));
    let bearer = credentials.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Ok(bearer.map(|(_, token)| token.trim()))
}
