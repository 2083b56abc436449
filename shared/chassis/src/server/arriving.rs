//! Requests whose body is still arriving.
//!
//! # Problem
//!
//! A client opens 300 connections, announces a body on each, and sends one byte. Counted as requests in progress they
//! fill the server, and all other clients are answered 503, although no work is being done.
//!
//! # Guarantee
//!
//! A request takes a place among those in progress when it is whole, not before. Until then it is bounded here:
//!
//! | bound | setting | answer beyond it |
//! | --- | --- | --- |
//! | its body's size | `HTTP_MAX_BODY_BYTES` | 413 |
//! | its body's time, counted from the head | `HTTP_BODY_TIMEOUT_MS`, or the caller's own deadline | 408 |
//! | bodies of one client that are arriving | `HTTP_MAX_ARRIVING_PER_CLIENT` | 408 at once |
//! | all bodies that are arriving | `HTTP_MAX_ARRIVING` | 503 |
//!
//! A body that arrives with its head, as small ones do, is never counted: clients that send at once are served even
//! when every place here is taken. A client is the customer whose token it shows or, without a valid one, its address.
//! So customers behind one proxy do not share a bound, and a stranger cannot use up a customer's.
//!
//! # Not guaranteed
//!
//! That slow clients from very many addresses leave room for other slow clients: they share the last bound.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix_web::{
    HttpMessage,
    dev::{Payload, ServiceRequest},
    http::header,
    web::{Bytes, BytesMut, Data},
};
use contracts::value::CustomerId;
use futures_util::{StreamExt, poll};
use holdfast::deadline::{self, Deadline};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use super::Limits;
use crate::{
    http::Problem,
    identity::{Role, Verifier, bearer_token},
};

/// The requests that are still arriving.
#[derive(Debug)]
pub(super) struct Arriving {
    per_client: usize,
    in_all: usize,
    /// The number of requests of each client; none is kept at zero. A std lock: held for a look-up, never across an
    /// await.
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    of: HashMap<Client, usize>,
    in_all: usize,
}

/// A sender of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Client {
    /// A client that is known by its token.
    Known(Role, CustomerId),
    /// A client without a valid token. `None` is a socket without an address.
    Address(Option<IpAddr>),
}

/// One body's place; freed when it is dropped.
#[derive(Debug)]
struct Place {
    arriving: Arc<Arriving>,
    client: Client,
}

/// A bound that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// The bound per client, in bodies.
    Client(usize),
    /// The bound of the whole server.
    All,
}

/// The time that a request may take, as the caller limits it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The time that the caller still has, if its header says so.
    caller: Option<(Duration, Deadline)>,
}

impl Patience {
    /// Reads the caller's deadline, which counts from now; one that is later than `limit` is ignored.
    pub(super) fn of(request: &ServiceRequest, limit: Duration) -> Self {
        let header = request.headers().get(deadline::HEADER);
        let granted = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let granted = granted.map(Duration::from_millis);
        let granted = granted.filter(|granted| *granted < limit);
        Self {
            caller: granted.map(|granted| (granted, Deadline::after(granted))),
        }
    }

    /// Returns the deadline of a step that begins now and may take `limit`, and a description of it.
    pub(super) fn within(self, limit: Duration) -> (Deadline, String) {
        let own = Deadline::after(limit);
        match self.caller {
            Some((granted, deadline)) if deadline < own => {
                let granted = granted.as_millis();
                (
                    deadline,
                    format!(
                        "the {granted} ms that its caller allows ({})",
                        deadline::HEADER
                    ),
                )
            }
            _ => (own, format!("{} ms", limit.as_millis())),
        }
    }
}

impl Arriving {
    /// Makes the bounds: `per_client` bodies of one client, and `in_all` of all clients.
    pub(super) fn new(per_client: u32, in_all: u32) -> Self {
        Self {
            per_client: per_client as usize,
            in_all: in_all as usize,
            counts: Mutex::default(),
        }
    }

    /// Takes a place for a body of `client`.
    fn enter(self: &Arc<Self>, client: Client) -> Result<Place, Full> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts
            .of
            .get(&client)
            .is_some_and(|n| *n >= self.per_client)
        {
            return Err(Full::Client(self.per_client));
        }
        if counts.in_all >= self.in_all {
            return Err(Full::All);
        }
        counts.in_all += 1;
        *counts.of.entry(client.clone()).or_default() += 1;
        gauge!("http_requests_arriving").increment(1.0);
        Ok(Place {
            arriving: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counts = &self.arriving.counts;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.in_all -= 1;
        if let Some(n) = counts.of.get_mut(&self.client) {
            *n -= 1;
            if *n == 0 {
                counts.of.remove(&self.client);
            }
        }
        gauge!("http_requests_arriving").decrement(1.0);
    }
}

/// Waits until `request` is whole. Its body is then in memory, and is read again from there.
///
/// Cancel safe: the part that was read is dropped with the request.
pub(super) async fn receive(
    request: &mut ServiceRequest,
    limits: Limits,
    patience: Patience,
) -> Result<(), Problem> {
    if !has_body(request) {
        request.set_payload(Payload::None);
        return Ok(());
    }
    let received = read_in_time(request, limits, patience).await;
    match received {
        Ok(body) => {
            request.set_payload(Payload::from(body));
            Ok(())
        }
        Err((why, problem)) => {
            counter!("http_requests_incomplete_total", "why" => why).increment(1);
            Err(problem)
        }
    }
}

/// Returns whether the head announces a body. Without these headers there is none (RFC 9112, 6.3): the bytes that
/// follow are another request, or those of an upgraded connection, which have no end.
fn has_body(request: &ServiceRequest) -> bool {
    let headers = request.headers();
    headers.contains_key(header::TRANSFER_ENCODING)
        || declared(request).is_some_and(|length| length > 0)
}

fn declared(request: &ServiceRequest) -> Option<u64> {
    let length = request.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

async fn read_in_time(
    request: &mut ServiceRequest,
    limits: Limits,
    patience: Patience,
) -> Result<Bytes, (&'static str, Problem)> {
    let (deadline, allowed) = patience.within(limits.body_time);
    let late = move |_| {
        let detail = format!("the body did not arrive within {allowed}");
        ("late", Problem::timeout(detail))
    };
    if declared(request).is_some_and(|declared| declared > limits.body as u64) {
        return Err(("too_large", too_large(limits.body)));
    }
    let mut reading = pin!(read(request.take_payload(), limits.body));
    // Polled twice: the server hands over the bytes that came with the head after the first poll.
    for _ in 0..2 {
        if let std::task::Poll::Ready(body) = poll!(&mut reading) {
            return body;
        }
        tokio::task::yield_now().await;
    }
    let arriving = request
        .app_data::<Data<Arriving>>()
        .map(|arriving| Arc::clone(arriving));
    let Some(arriving) = arriving else {
        return Err(("broken", Problem::internal("the server counts no bodies")));
    };
    let client = deadline
        .run(client_of(request))
        .await
        .map_err(late.clone())?;
    let _place = arriving.enter(client).map_err(|full| match full {
        Full::Client(bound) => (
            "too_many_of_client",
            Problem::timeout(format!(
                "{bound} of your requests are still arriving, and the body of this one did not come with its head"
            ))
            .retry_after(Duration::from_secs(1)),
        ),
        Full::All => (
            "too_many",
            Problem::unavailable("too many requests are still arriving")
                .retry_after(Duration::from_secs(1)),
        ),
    })?;
    deadline.run(reading).await.map_err(late)?
}

/// Reads a body to its end.
async fn read(mut payload: Payload, limit: usize) -> Result<Bytes, (&'static str, Problem)> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            let problem = Problem::bad_request(format!("the body broke off: {error}"));
            ("broke_off", problem)
        })?;
        if body.len() + chunk.len() > limit {
            return Err(("too_large", too_large(limit)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn too_large(limit: usize) -> Problem {
    Problem::too_large(format!("a body may have {limit} bytes"))
}

/// Returns the client that a slow body is counted for. Handlers verify the token again: most requests need no look
/// here.
async fn client_of(request: &ServiceRequest) -> Client {
    let address = || Client::Address(request.peer_addr().map(|address| address.ip()));
    let Some(verifier) = request.app_data::<Data<Verifier>>() else {
        return address();
    };
    match bearer_token(request.headers()) {
        Ok(Some(token)) => match verifier.verify(token).await {
            Ok(principal) => Client::Known(principal.role, principal.id),
            Err(_) => address(),
        },
        _ => address(),
    }
}

/// Describes each metric, for readers of `/metrics`.
pub(super) fn describe() {
    describe_gauge!(
        "http_requests_arriving",
        Unit::Count,
        "Requests whose body is still arriving"
    );
    describe_counter!(
        "http_requests_incomplete_total",
        Unit::Count,
        "Requests that were refused before they were whole: too large, late, broken off, or too many at a time"
    );
    gauge!("http_requests_arriving").set(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Client {
        Client::Known(Role::Customer, name.parse().expect("a name"))
    }

    #[test]
    fn places_are_bounded_per_client_and_in_all() {
        let arriving = Arc::new(Arriving::new(2, 3));
        let first = arriving.enter(known("alice")).expect("there is room");
        let _second = arriving.enter(known("alice")).expect("there is room");
        let third = arriving.enter(known("alice"));
        assert_eq!(third.expect_err("alice has two"), Full::Client(2));
        let _bob = arriving.enter(known("bob")).expect("bob has none yet");
        let carol = arriving.enter(known("carol"));
        assert_eq!(carol.expect_err("there are three"), Full::All);
        drop(first);
        arriving
            .enter(known("carol"))
            .expect("a place is free again");
    }

    #[test]
    fn a_client_without_places_is_forgotten() {
        let arriving = Arc::new(Arriving::new(2, 3));
        drop(arriving.enter(known("alice")).expect("there is room"));
        let counts = arriving.counts.lock().expect("not poisoned");
        assert!(counts.of.is_empty());
        assert_eq!(counts.in_all, 0);
    }
}
