//! W3C Trace Context, levels 1 and 2: the two headers by which a trace goes from one process to the next.
//!
//! The parser is ours because the crate's is lenient where the specification says "restart the trace": the
//! `TraceContextPropagator` of `opentelemetry_sdk` 0.33 takes ids of any length, a sign before a number and a dash
//! after the flags, and clears the random flag; the `TraceState` of `opentelemetry` refuses keys that level 2 allows
//! (`a@b@c`), and cuts a list of more than 32 members where the specification invalidates it.

use std::collections::BTreeMap;

use opentelemetry::{
    SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceState},
};

/// The header that names the parent: its trace, its span and its flags.
pub const TRACEPARENT: &str = "traceparent";
/// The header in which each tracing system on the way keeps its own entry.
pub const TRACESTATE: &str = "tracestate";

/// The length of a `traceparent` of version 00, in bytes. Every later version begins with one of this length.
const LENGTH: usize = 55;
/// The most members that a `tracestate` may have.
const MAX_MEMBERS: usize = 32;
/// The longest `tracestate` that is carried on, in bytes: the specification requires every system to carry at least as
/// much, and the bound keeps a caller's list from displacing a message's other headers.
const MAX_STATE: usize = 512;
/// The length, in bytes, above which members are the first to be removed from a list that is too long.
const LARGE_MEMBER: usize = 128;
/// The longest key, and the longest value, of a member, in bytes.
const MAX_KEY_OR_VALUE: usize = 256;

/// Set if the caller may have recorded its span.
const SAMPLED: u8 = 0b01;
/// Set if the right half of the trace id is random (level 2).
const RANDOM: u8 = 0b10;

/// The position in a trace from which a piece of work continues, as it is sent between processes.
///
/// Invariant: both ids are valid, the flags are those of level 2, and the state is a valid list of at most 512 bytes. A
/// context that was read as a later version is written as version 00.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: TraceId,
    span_id: SpanId,
    flags: u8,
    state: Option<String>,
}

impl TraceContext {
    /// Reads the context from the values of both headers, each of which may be present several times.
    ///
    /// Returns `None`, which restarts the trace, unless there is exactly one valid `traceparent`. An invalid
    /// `tracestate` is dropped alone.
    pub fn read<'a>(
        traceparents: impl IntoIterator<Item = &'a [u8]>,
        tracestates: impl IntoIterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let mut traceparents = traceparents.into_iter();
        let (parent, None) = (traceparents.next()?, traceparents.next()) else {
            return None;
        };
        let (trace_id, span_id, flags) = parent_of(without_space(parent))?;
        Some(Self {
            trace_id,
            span_id,
            flags,
            state: state_of(tracestates),
        })
    }

    /// Reads the context from text, as a table keeps it.
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        Self::read([traceparent.as_bytes()], tracestate.map(str::as_bytes))
    }

    /// Reads the context from a message's headers.
    pub fn from_headers(headers: &BTreeMap<String, String>) -> Option<Self> {
        let tracestate = headers.get(TRACESTATE).map(String::as_str);
        Self::parse(headers.get(TRACEPARENT)?, tracestate)
    }

    /// Puts this context into a message's headers, in the place of the one that they carry.
    pub fn put_into(&self, headers: &mut BTreeMap<String, String>) {
        // A state that another context left would be read as this one's.
        headers.remove(TRACESTATE);
        headers.extend(self.headers().map(|(name, value)| (name.to_owned(), value)));
    }

    /// Returns the headers to send, by their names.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.clone().map(|state| (TRACESTATE, state));
        [(TRACEPARENT, self.traceparent())].into_iter().chain(state)
    }

    /// Returns the trace's id, as logs and collectors show it: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        self.trace_id.to_string()
    }

    /// Returns the `traceparent`, in version 00.
    pub fn traceparent(&self) -> String {
        let Self {
            trace_id,
            span_id,
            flags,
            ..
        } = self;
        format!("00-{trace_id}-{span_id}-{flags:02x}")
    }

    /// Returns the `tracestate`, if it has members.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns whether the caller keeps this trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the context of a span of this process; its trace state is that of its ancestor in another process, if it
    /// has one.
    pub(super) fn of_span(span: &SpanContext, ancestor: Option<&Self>) -> Option<Self> {
        if !span.is_valid() {
            return None;
        }
        let ancestor = ancestor.filter(|ancestor| ancestor.trace_id == span.trace_id());
        // The ids of traces that begin here are wholly random.
        let random = ancestor.map_or(RANDOM, |ancestor| ancestor.flags & RANDOM);
        let sampled = if span.is_sampled() { SAMPLED } else { 0 };
        Some(Self {
            trace_id: span.trace_id(),
            span_id: span.span_id(),
            flags: sampled | random,
            state: ancestor.and_then(|ancestor| ancestor.state.clone()),
        })
    }

    /// Returns the form in which OpenTelemetry holds a parent in another process.
    pub(super) fn to_remote(&self) -> SpanContext {
        // The state that exporters show. A list that the crate cannot hold is sent on all the same: it is kept beside
        // this.
        let state = self.tracestate().and_then(|state| state.parse().ok());
        SpanContext::new(
            self.trace_id,
            self.span_id,
            TraceFlags::new(self.flags),
            true,
            state.unwrap_or(TraceState::NONE),
        )
    }
}

/// Reads a `traceparent`: the trace, the span, and the flags that level 2 knows.
fn parent_of(text: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let (known, rest) = text.split_at_checked(LENGTH)?;
    let [version, trace_id, span_id, flags] = [0..2, 3..35, 36..52, 53..55].map(|at| &known[at]);
    if [2, 35, 52].iter().any(|&at| known[at] != b'-') {
        return None;
    }
    match (hex(version)?, rest) {
        (0..0xff, []) | (1..0xff, [b'-', ..]) => {}
        _ => return None,
    }
    let trace_id = TraceId::from(hex(trace_id)?);
    let span_id = SpanId::from(u64::try_from(hex(span_id)?).ok()?);
    let flags = u8::try_from(hex(flags)?).ok()? & (SAMPLED | RANDOM);
    (trace_id != TraceId::INVALID && span_id != SpanId::INVALID)
        .then_some((trace_id, span_id, flags))
}

/// Reads a number from lower-case hexadecimal digits, at most 32 of them.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(digit))
    })
}

/// Reads the `tracestate` of one or more headers, in their order. Returns `None` if the list is empty or not valid.
fn state_of<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    let mut count = 0;
    for header in headers {
        for member in header.split(|byte| *byte == b',').map(without_space) {
            if member.is_empty() {
                continue;
            }
            count += 1;
            let (key, value) = str::from_utf8(member).ok()?.split_once('=')?;
            if count > MAX_MEMBERS || !(is_key(key) && is_value(value)) {
                return None;
            }
            // The left one is the newer.
            if members.iter().all(|(known, _)| *known != key) {
                members.push((key, value));
            }
        }
    }
    shorten(&mut members);
    let members: Vec<String> = members
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    (!members.is_empty()).then(|| members.join(","))
}

/// Removes whole members until the list fits: the large ones first, then from the right.
fn shorten(members: &mut Vec<(&str, &str)>) {
    let length = |(key, value): &(&str, &str)| key.len() + 1 + value.len();
    let is_too_long = |members: &[(&str, &str)]| {
        let commas = members.len().saturating_sub(1);
        members.iter().map(length).sum::<usize>() + commas > MAX_STATE
    };
    while is_too_long(members) {
        let large = members
            .iter()
            .rposition(|member| length(member) > LARGE_MEMBER);
        members.remove(large.unwrap_or(members.len() - 1));
    }
}

fn is_key(key: &str) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= MAX_KEY_OR_VALUE
        && key.as_bytes().first().is_some_and(is_first)
        && key
            .bytes()
            .all(|byte| is_first(&byte) || b"_-*/@".contains(&byte))
}

/// Returns whether this is a valid value. The space around the member has been removed, so a value cannot end with one.
fn is_value(value: &str) -> bool {
    (1..=MAX_KEY_OR_VALUE).contains(&value.len())
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b'=')
}

/// Removes the optional whitespace (RFC 9110, 5.6.3) around a header's value, or around a list's member.
fn without_space(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
