//! W3C Trace Context, levels 1 and 2: the headers that are sent for those that were received.

use holdfast::telemetry::{self, Exporter, Sampling, TraceContext};
use tracing::info_span;
use tracing_subscriber::layer::SubscriberExt;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// Adopts the received headers, and returns those of a call made two spans below: one request in, one call out.
fn goes_on(traceparents: &[&str], tracestates: &[&str]) -> TraceContext {
    let exporter = [Exporter::None];
    let provider = telemetry::provider("test", "1", &exporter, Sampling::default())
        .expect("no exporter is one");
    let subscriber = tracing_subscriber::registry().with(telemetry::layer("test", &provider));
    tracing::subscriber::with_default(subscriber, || {
        let came = TraceContext::read(
            traceparents.iter().map(|value| value.as_bytes()),
            tracestates.iter().map(|value| value.as_bytes()),
        );
        let request = info_span!("request");
        telemetry::adopt(&request, came.as_ref());
        let call = request.in_scope(|| info_span!("call"));
        telemetry::trace_context_of(&call).expect("it is part of a trace")
    })
}

/// Returns the trace state that is sent on from a valid parent.
fn state(tracestates: &[&str]) -> Option<String> {
    let sent = goes_on(&[&parent("01")], tracestates);
    assert_eq!(
        sent.trace_id(),
        TRACE,
        "the trace goes on whatever its state"
    );
    sent.tracestate().map(str::to_owned)
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

fn is_restarted(traceparents: &[&str]) -> bool {
    // An id that only gained or lost a digit would still be the same trace: a new trace lacks the middle digits, too.
    !goes_on(traceparents, &[])
        .trace_id()
        .contains(&TRACE[1..31])
}

#[test]
fn outgoing_call_is_a_new_span_of_the_same_trace() {
    let sent = goes_on(&[&parent("01")], &[]);
    let text = sent.traceparent();
    assert_eq!((&text[..36], &text[52..]), (&parent("01")[..36], "-01"));
    assert_ne!(&text[36..52], SPAN);
    // The written header can be read back.
    assert_eq!(TraceContext::parse(&text, None), Some(sent));
}

#[test]
fn malformed_traceparent_restarts_the_trace() {
    for (traceparent, what) in [
        (String::new(), "nothing"),
        (format!("0-{TRACE}-{SPAN}-01"), "a version of one digit"),
        (
            format!("000-{TRACE}-{SPAN}-01"),
            "a version of three digits",
        ),
        (format!("+0-{TRACE}-{SPAN}-01"), "a sign in the version"),
        (format!("0x-{TRACE}-{SPAN}-01"), "a letter in the version"),
        (format!("CC-{TRACE}-{SPAN}-01"), "a version in capitals"),
        (
            format!("ff-{TRACE}-{SPAN}-01"),
            "the version that there is not",
        ),
        (format!("00-{}-{SPAN}-01", &TRACE[1..]), "a short trace id"),
        (format!("00-{TRACE}0-{SPAN}-01"), "a long trace id"),
        (
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            "a sign in the trace id",
        ),
        (
            format!("00-{}g-{SPAN}-01", &TRACE[..31]),
            "a letter in the trace id",
        ),
        (
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            "a trace id in capitals",
        ),
        (format!("00-{TRACE}-{}-01", &SPAN[1..]), "a short span id"),
        (format!("00-{TRACE}-{SPAN}0-01"), "a long span id"),
        (
            format!("00-{TRACE}-.{}-01", &SPAN[1..]),
            "a dot in the span id",
        ),
        (
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            "a span id in capitals",
        ),
        (
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            "a span id of zeroes",
        ),
        (parent("1"), "flags of one digit"),
        (parent("001"), "flags of three digits"),
        (parent("+1"), "a sign in the flags"),
        (parent(".1"), "a dot in the flags"),
        (parent("AA"), "flags in capitals"),
        (parent("01-"), "a dash at the end"),
        (parent("01-more"), "more than version 00 has"),
        (parent("01."), "a dot at the end"),
        (format!("00_{TRACE}_{SPAN}_01"), "other separators"),
        (parent("01").replace('0', "٠"), "digits that are not ASCII"),
    ] {
        assert!(is_restarted(&[&traceparent]), "{what}: {traceparent:?}");
    }
    let zeroes = "0".repeat(32);
    let sent = goes_on(&[&format!("00-{zeroes}-{SPAN}-01")], &[]);
    assert_ne!(sent.trace_id(), zeroes);
}

#[test]
fn later_version_is_read_as_far_as_it_is_known() {
    for (traceparent, goes_on) in [
        (format!("cc-{TRACE}-{SPAN}-01"), true),
        (format!("cc-{TRACE}-{SPAN}-01-what-will-be"), true),
        (format!("01-{TRACE}-{SPAN}-01-"), true),
        (format!("cc-{TRACE}-{SPAN}-01.what-will-be"), false),
        (format!("cc-{TRACE}-{SPAN}-1"), false),
        (format!("cc-{TRACE}-{}-01-what-will-be", &SPAN[1..]), false),
    ] {
        assert_eq!(is_restarted(&[&traceparent]), !goes_on, "{traceparent}");
    }
    let sent = goes_on(&[&format!("cc-{TRACE}-{SPAN}-01-more")], &[]);
    assert!(sent.traceparent().starts_with("00-"), "{sent:?}");
}

#[test]
fn two_traceparents_restart_the_trace() {
    assert!(is_restarted(&[&parent("01"), &parent("01")]));
    assert!(is_restarted(&[&parent("01"), ""]));
}

#[test]
fn space_around_a_header_is_not_part_of_it() {
    for around in [" ", "\t", " \t"] {
        let spaced = format!("{around}{}{around}", parent("01"));
        assert!(!is_restarted(&[&spaced]), "{spaced:?}");
        let spaced = format!("{around}rojo=1{around}");
        assert_eq!(state(&[&spaced]).as_deref(), Some("rojo=1"), "{spaced:?}");
    }
}

#[test]
fn flags_of_level_2_go_on_and_others_are_cleared() {
    for (came, sent) in [
        ("00", "00"),
        ("01", "01"),
        ("02", "02"),
        ("03", "03"),
        ("ff", "03"),
        ("fc", "00"),
    ] {
        let text = goes_on(&[&parent(came)], &[]).traceparent();
        assert_eq!(&text[53..], sent, "for {came}");
    }
}

#[test]
fn new_trace_is_flagged_as_random() {
    assert_eq!(&goes_on(&[], &[]).traceparent()[53..], "02");
}

#[test]
fn tracestate_goes_on_as_it_came() {
    let longest_key = "k".repeat(256);
    for list in [
        "rojo=1".to_owned(),
        "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".to_owned(),
        // Level 2: a key begins with a letter or a digit, and may contain any number of @.
        "0a_-*/@z@@=1,foo@=2,tenant@system=3".to_owned(),
        // Spaces inside and before a value belong to it.
        "rojo=  a b".to_owned(),
        format!(
            "rojo={}",
            (b' '..=b'~')
                .map(char::from)
                .filter(|c| !",=".contains(*c))
                .collect::<String>()
        ),
        format!("{longest_key}=1"),
        format!("rojo={}", "v".repeat(256)),
    ] {
        assert_eq!(state(&[&list]), Some(list));
    }
}

#[test]
fn several_tracestates_are_one_list() {
    for (headers, list) in [
        (
            vec!["rojo=1,congo=2", "baz=3"],
            Some("rojo=1,congo=2,baz=3"),
        ),
        (
            vec!["rojo=1 \t , \t congo=2", "\tbaz=3"],
            Some("rojo=1,congo=2,baz=3"),
        ),
        (vec!["", "rojo=1", " ,, "], Some("rojo=1")),
        (vec![""], None),
        (vec![], None),
        // The left one of two equal keys is the newer one.
        (vec!["rojo=1", "rojo=2,congo=3"], Some("rojo=1,congo=3")),
    ] {
        assert_eq!(state(&headers).as_deref(), list, "{headers:?}");
    }
}

#[test]
fn malformed_tracestate_is_dropped_as_a_whole() {
    let long_key = format!("{}=1", "k".repeat(257));
    let long_value = format!("rojo={}", "v".repeat(257));
    for member in [
        "rojo",
        "rojo=",
        "=1",
        "rojo =1",
        "ROJO=1",
        "ro.jo=1",
        "@rojo=1",
        "_rojo=1",
        "rojo=1=2",
        "rojo==1",
        "rojo=a\tb",
        "rojo=é",
        &long_key,
        &long_value,
    ] {
        assert_eq!(state(&["congo=1", member]), None, "{member:?}");
    }
}

#[test]
fn tracestate_of_more_than_32_members_is_dropped() {
    let list = |n: usize| (1..=n).map(|n| format!("k{n}={n}")).collect::<Vec<_>>();
    assert_eq!(state(&[&list(32).join(",")]), Some(list(32).join(",")));
    assert_eq!(state(&[&list(33).join(",")]), None);
    let headers = list(33);
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    assert_eq!(state(&headers), None);
}

#[test]
fn long_tracestate_loses_whole_members_the_large_ones_first() {
    let member = |key: &str, length: usize| format!("{key}={}", "v".repeat(length - key.len() - 1));
    // 512 characters are sent on, 513 are not.
    let fits = [member("a", 200), member("b", 200), member("c", 110)].join(",");
    assert_eq!((fits.len(), state(&[&fits])), (512, Some(fits.clone())));
    let small: Vec<String> = ["c", "d", "e", "f"].map(|key| member(key, 120)).to_vec();
    let list = [&[member("a", 129), member("b", 130)], &small[..]]
        .concat()
        .join(",");
    assert_eq!(state(&[&list]), Some(small.join(",")));
    // Of small members the rightmost are dropped.
    let small: Vec<String> = ["a", "b", "c", "d", "e"]
        .map(|key| member(key, 128))
        .to_vec();
    assert_eq!(state(&[&small.join(",")]), Some(small[..3].join(",")));
}

#[test]
fn tracestate_is_dropped_with_its_traceparent() {
    for traceparents in [vec![], vec!["nonsense"]] {
        assert_eq!(goes_on(&traceparents, &["rojo=1"]).tracestate(), None);
    }
    let twice = parent("01");
    assert_eq!(goes_on(&[&twice, &twice], &["rojo=1"]).tracestate(), None);
}
