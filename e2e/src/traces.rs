//! The expected trace of an order, whether it is read from the services' own consoles or from Jaeger.
//!
//! [`orders`] places the orders, [`Span`] is one span from either source, [`Case::faults`] lists what is wrong with a
//! trace.

pub mod case;
pub mod jaeger;
pub mod orders;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use case::Case;

/// A span, read from a console or from Jaeger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The service that recorded the span.
    pub service: String,
    /// The name of the operation, such as `POST /orders`.
    pub name: String,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub kind: String,
    /// The span id, 16 hexadecimal digits.
    pub id: String,
    /// The span id of the parent; `None` for a root.
    pub parent: Option<String>,
    /// The attributes, with their values as text.
    pub attributes: BTreeMap<String, String>,
    /// Set if the span's status is an error.
    pub failed: bool,
}

impl Span {
    /// Returns an attribute's value, or an empty text.
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Reads a span from a line of a service's log; `None` unless the line is a span of the trace `trace`.
    pub fn from_console(line: &str, trace: &str) -> Option<Self> {
        let line: Value = serde_json::from_str(line).ok()?;
        let span = line.get("span")?;
        if span["trace_id"] != trace {
            return None;
        }
        let text = |name: &str| span[name].as_str().map(str::to_owned);
        Some(Self {
            service: text("service")?,
            name: text("name")?,
            kind: text("kind")?,
            id: text("span_id")?,
            parent: text("parent_span_id"),
            attributes: span["attributes"]
                .as_object()?
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect(),
            failed: !span["status"]["error"].is_null(),
        })
    }
}

/// The spans of one trace, by span id.
#[derive(Clone, Debug, Default)]
pub struct Trace(BTreeMap<String, Span>);

impl FromIterator<Span> for Trace {
    fn from_iter<I: IntoIterator<Item = Span>>(spans: I) -> Self {
        Self(
            spans
                .into_iter()
                .map(|span| (span.id.clone(), span))
                .collect(),
        )
    }
}

impl Trace {
    /// Returns every span, in the order of the span ids.
    pub fn spans(&self) -> impl Iterator<Item = &Span> {
        self.0.values()
    }

    /// Returns a span's parent, if it is in the trace.
    pub fn parent(&self, span: &Span) -> Option<&Span> {
        span.parent.as_ref().and_then(|parent| self.0.get(parent))
    }

    /// Returns the spans directly below a span.
    pub fn children<'a>(&'a self, span: &'a Span) -> impl Iterator<Item = &'a Span> {
        self.spans()
            .filter(|child| child.parent.as_ref() == Some(&span.id))
    }

    /// Returns the spans from the root down to this one, each as `service name`.
    pub fn path(&self, span: &Span) -> Vec<String> {
        let mut path = Vec::new();
        let mut next = Some(span);
        // A loop of parents would be a recorder's defect. It must not hang the test.
        while let Some(span) = next.filter(|_| path.len() <= self.0.len()) {
            path.push(format!("{} {}", span.service, span.name));
            next = self.parent(span);
        }
        path.reverse();
        path
    }

    /// Returns the spans named by the last of `steps` whose ancestors include the other steps, in that order.
    fn at(&self, steps: &[String]) -> Vec<&Span> {
        let Some((last, above)) = steps.split_last() else {
            return Vec::new();
        };
        self.spans()
            .filter(|span| format!("{} {}", span.service, span.name) == *last)
            .filter(|span| {
                let path = self.path(span);
                let mut seen = path.iter().take(path.len().saturating_sub(1));
                above.iter().all(|step| seen.any(|name| name == step))
            })
            .collect()
    }

    /// Lists what is wrong with the trace, whichever order it is of. `caller` is the id of the span outside the trace.
    fn faults(&self, caller: &str) -> BTreeSet<String> {
        let mut faults = BTreeSet::new();
        for span in self.spans() {
            let fault = |what: &str| format!("{what}: {span:?}");
            let parent = self.parent(span);
            if parent.is_none() && span.parent.as_deref() != Some(caller) {
                faults.insert(fault("its parent is missing"));
                continue;
            }
            let is_below = match span.kind.as_str() {
                // A request is below the call that made it, in another service.
                "server" => parent.is_none_or(|call| {
                    let method = span.get("http.request.method");
                    call.kind == "client"
                        && call.service != span.service
                        && call.get("http.request.method") == method
                        && span.get("url.scheme") == "http"
                        && call.get("url.full").ends_with(span.get("url.path"))
                }),
                // A delivery is below its sending, with the same message id. Its destination is the sender's, then the
                // queue.
                "consumer" => parent.is_some_and(|sent| {
                    let of = |span: &Span| span.get("messaging.message.id").to_owned();
                    let destination = sent.get("messaging.destination.name");
                    sent.kind == "producer"
                        && of(sent) == of(span)
                        && (span.get("messaging.destination.name").starts_with(destination)
                            // A message returns from a delay queue under another destination than it was sent to.
                            || destination.starts_with("retry."))
                }),
                // A message is sent below the span of the same service that caused it, if there is one.
                "producer" => parent.is_none_or(|cause| cause.service == span.service),
                _ => parent.is_none_or(|above| above.service == span.service),
            };
            if !is_below {
                faults.insert(fault(&format!("below the wrong span, {parent:?}")));
            }
            faults.extend(
                missing(span)
                    .iter()
                    .map(|name| fault(&format!("no {name}"))),
            );
        }
        faults
    }
}

/// Returns the attributes that a span of its kind must have, and lacks.
fn missing(span: &Span) -> Vec<&'static str> {
    let is = |name: &str| !span.get(name).is_empty();
    let wanted: &[&str] = match span.kind.as_str() {
        "server" => &[
            "http.request.method",
            "url.path",
            "http.route",
            "http.response.status_code",
        ],
        "client" if is("http.request.method") => &["url.full", "server.address", "server.port"],
        "client" if is("messaging.system") => {
            &["messaging.operation.type", "messaging.batch.message_count"]
        }
        "client" if span.name == "send mail" => &["server.address", "order.id"],
        "client" => &["db.system.name", "db.operation.name"],
        "producer" | "consumer" => &[
            "messaging.system",
            "messaging.operation.type",
            "messaging.destination.name",
            "messaging.message.id",
            "order.id",
        ],
        _ => &[],
    };
    let failed: &[&str] = if span.failed { &["error.type"] } else { &[] };
    wanted
        .iter()
        .chain(failed)
        .copied()
        .filter(|name| !is(name))
        .collect()
}
