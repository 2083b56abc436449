//! Distinguishes requests that are meant for the room from those that another site made a browser send.
//!
//! In demo mode anyone who reaches the room may use it: it listens on the loopback interface, or behind a front door
//! that does. The visitor's browser reaches it as well, and also runs pages of other sites. Three headers distinguish
//! their requests, and a page can set none of them:
//!
//! - `Host` must be one of the room's names. A page whose own name was made to resolve to the room (DNS rebinding) is
//!   of the same origin for its browser, but its requests carry its own name. A host in the request's target must be
//!   one of the room's names, too.
//! - `Origin`, which browsers send with every change, must be that very host and port.
//! - `Sec-Fetch-Site` must be `same-origin`, or `none` for an address that the visitor typed.
//!
//! A change must be `application/json` as well. A page of another origin can send that only after a preflight, which
//! the room does not grant. A program that is not a browser sends neither `Origin` nor `Sec-Fetch-Site`, and is let in.
//!
//! The response is 403 and not 421 (RFC 9110, 15.5.20): after a 421 a client may repeat the request on a new
//! connection, but the name is foreign on every connection.

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::{
        Method,
        header::{HOST, HeaderName, ORIGIN},
        uri::Authority,
    },
    web,
};
use chassis::http::Problem;
use std::future::{Ready, ready};

use super::State;
use crate::config::Hosts;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// An extractor for handlers that require no more than a request that is meant for the room.
#[derive(Debug)]
pub(super) struct Meant;

impl FromRequest for Meant {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(state) = request.app_data::<web::Data<State>>() else {
            return ready(Err(Problem::internal("the room has no state")));
        };
        ready(check(request, &state.hosts).map(|()| Self))
    }
}

/// Refuses with 403 requests to a foreign name, and those that another site made a browser send; with 415 changes that
/// are not JSON.
pub(super) fn check(request: &HttpRequest, hosts: &Hosts) -> Result<(), Problem> {
    let foreign = |why: &str| Err(Problem::foreign_site(why));
    let Some(host) = only(request, &HOST).and_then(|host| host.parse().ok()) else {
        return foreign("the request must have one valid Host header");
    };
    let target = request.uri().authority();
    if !hosts.has(&host) || target.is_some_and(|target| !hosts.has(target)) {
        return foreign(
            "the Host header is not a name of the control room: use localhost, or add the name to ROOM_HOSTS",
        );
    }
    if request.headers().contains_key(ORIGIN) {
        let origin = only(request, &ORIGIN).and_then(authority);
        if origin.is_none_or(|origin| !same(&origin, &host)) {
            return foreign("a page of another site may not use the control room");
        }
    }
    if request.headers().contains_key(&SEC_FETCH_SITE) {
        let site = only(request, &SEC_FETCH_SITE);
        if site.is_none_or(|site| !["same-origin", "none"].contains(&site)) {
            return foreign("a page of another site may not use the control room");
        }
    }
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    if changes && request.content_type() != "application/json" {
        return Err(Problem::unsupported_media_type(
            "a request that changes something must be sent as application/json",
        ));
    }
    Ok(())
}

/// Returns the value of a header; `None` if it is missing, repeated or not text.
fn only<'a>(request: &'a HttpRequest, name: &HeaderName) -> Option<&'a str> {
    let mut values = request.headers().get_all(name);
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Returns the host and port of an origin. A front door may terminate TLS, so both schemes are valid.
fn authority(origin: &str) -> Option<Authority> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| origin.strip_prefix(scheme))?;
    rest.parse().ok()
}

fn same(one: &Authority, other: &Authority) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const PAGE: &str = "http://localhost:7000";

    /// A request's method, `Host`, `Origin` and `Sec-Fetch-Site`, and true if it is let in.
    type Row = (
        Method,
        &'static [&'static str],
        &'static [&'static str],
        Option<&'static str>,
        bool,
    );

    fn is_let_in(method: &Method, host: &[&str], origin: &[&str], site: Option<&str>) -> bool {
        let hosts: Hosts = "demo.example, room.example:8443".parse().expect("hosts");
        let mut request = TestRequest::with_uri("/room/orders").method(method.clone());
        for (name, values) in [(HOST, host), (ORIGIN, origin)] {
            for value in values {
                request = request.append_header((name.clone(), *value));
            }
        }
        if let Some(site) = site {
            request = request.insert_header((SEC_FETCH_SITE, site));
        }
        let request = request.insert_header(("content-type", "application/json"));
        check(&request.to_http_request(), &hosts).is_ok()
    }

    #[test]
    fn requests_are_told_apart_by_host_origin_and_site() {
        let rows: &[Row] = &[
            // Programs, and addresses that a visitor typed.
            (Method::GET, &["127.0.0.1:7000"], &[], None, true),
            (Method::POST, &["127.0.0.1:7000"], &[], None, true),
            (Method::GET, &["localhost:7000"], &[], Some("none"), true),
            (Method::GET, &["LocalHost"], &[], Some("none"), true),
            (Method::GET, &["[::1]:7000"], &[], None, true),
            // The page itself.
            (
                Method::GET,
                &["localhost:7000"],
                &[],
                Some("same-origin"),
                true,
            ),
            (
                Method::POST,
                &["localhost:7000"],
                &[PAGE],
                Some("same-origin"),
                true,
            ),
            (
                Method::PUT,
                &["demo.example"],
                &["https://demo.example"],
                Some("same-origin"),
                true,
            ),
            (
                Method::PUT,
                &["demo.example:81"],
                &["http://Demo.Example:81"],
                Some("same-origin"),
                true,
            ),
            (
                Method::PUT,
                &["room.example:8443"],
                &["https://room.example:8443"],
                None,
                true,
            ),
            // A foreign name, whatever its browser says: DNS rebinding.
            (
                Method::GET,
                &["evil.example:7000"],
                &[],
                Some("same-origin"),
                false,
            ),
            (Method::GET, &["evil.example"], &[], None, false),
            (
                Method::POST,
                &["evil.example:7000"],
                &["http://evil.example:7000"],
                Some("same-origin"),
                false,
            ),
            (Method::GET, &["room.example"], &[], None, false),
            (Method::GET, &["127.0.0.2:7000"], &[], None, false),
            (Method::GET, &["0.0.0.0:7000"], &[], None, false),
            (Method::GET, &["localhost.evil.example"], &[], None, false),
            (Method::GET, &["evil.example@localhost"], &[], None, false),
            (Method::GET, &["localhost@evil.example"], &[], None, false),
            (Method::GET, &[""], &[], None, false),
            (Method::GET, &[], &[], None, false),
            (
                Method::GET,
                &["localhost", "evil.example"],
                &[],
                None,
                false,
            ),
            // A page of another origin, on another name or another port.
            (
                Method::POST,
                &["localhost:7000"],
                &["https://evil.example"],
                Some("cross-site"),
                false,
            ),
            (
                Method::POST,
                &["localhost:7000"],
                &["https://evil.example"],
                None,
                false,
            ),
            (
                Method::POST,
                &["localhost:7000"],
                &["https://evil.example"],
                Some("same-origin"),
                false,
            ),
            (
                Method::POST,
                &["localhost:7000"],
                &["http://localhost:7001"],
                Some("same-site"),
                false,
            ),
            (
                Method::POST,
                &["localhost:7000"],
                &["http://127.0.0.1:7000"],
                Some("same-origin"),
                false,
            ),
            (Method::POST, &["localhost:7000"], &["null"], None, false),
            (
                Method::POST,
                &["localhost:7000"],
                &[PAGE, "https://evil.example"],
                None,
                false,
            ),
            (
                Method::GET,
                &["localhost:7000"],
                &["https://evil.example"],
                None,
                false,
            ),
            (
                Method::GET,
                &["localhost:7000"],
                &[],
                Some("cross-site"),
                false,
            ),
            (
                Method::GET,
                &["localhost:7000"],
                &[],
                Some("same-site"),
                false,
            ),
        ];
        for (method, host, origin, site, wanted) in rows {
            assert_eq!(
                is_let_in(method, host, origin, *site),
                *wanted,
                "{method} Host {host:?} Origin {origin:?} Sec-Fetch-Site {site:?}"
            );
        }
    }

    #[test]
    fn target_that_names_a_foreign_host_is_refused() {
        let hosts = Hosts::default();
        for (target, wanted) in [
            ("http://localhost:7000/room/config", true),
            ("http://evil.example/room/config", false),
        ] {
            let request = TestRequest::with_uri(target).insert_header((HOST, "localhost:7000"));
            let checked = check(&request.to_http_request(), &hosts);
            assert_eq!(checked.is_ok(), wanted, "{target}");
        }
    }

    #[test]
    fn change_must_be_sent_as_json() {
        for (kind, wanted) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            let request = TestRequest::post()
                .insert_header((HOST, "localhost:7000"))
                .insert_header(("content-type", kind));
            let checked = check(&request.to_http_request(), &Hosts::default());
            assert_eq!(checked.is_ok(), wanted, "{kind}");
        }
    }
}
