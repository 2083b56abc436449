//! The size limit of a message's headers.
//!
//! AMQP 0-9-1 sends all properties of a message in one frame, and unlike a body that frame is never split. RabbitMQ
//! closes the connection of a publisher whose header frame is larger than what the two agreed on, and with it
//! everything else that is under way there. It does *not* look at the size of what it delivers: a consumer that agreed
//! on less than the publisher did loses its connection for each delivery of such a message.

use std::collections::BTreeMap;

/// The largest frame, in bytes, that a connection agrees on: RabbitMQ's default, so that it can receive every message
/// that the broker took from another client.
pub(super) const FRAME_MAX: u32 = 131_072;

/// The bytes of a header frame besides our headers: 81 of its own and of the other properties that we set, and the
/// headers that the broker adds when it dead-letters the message (`x-death` and the like), which has at most a dozen
/// names of 255 bytes.
const RESERVE: usize = 4096;

/// The header that says how many headers were left out, and which; see [`cut`].
pub(super) const CUT: &str = "holdfast-cut";
/// The most that [`CUT`] takes, in bytes.
const NOTE: usize = 512;

/// The bytes that the publisher adds to a message when it sends it: `traceparent`, and `tracestate` of at most 512
/// characters.
const CONTEXT: usize = 1024;

/// The longest name of a header, exchange or routing key, in bytes.
const NAME: usize = 255;

/// Returns how many bytes of headers a message may have where frames are of up to `frame_max` bytes.
pub(super) fn room(frame_max: u32) -> usize {
    usize::try_from(frame_max)
        .unwrap_or(usize::MAX)
        .saturating_sub(RESERVE)
}

/// Returns how many bytes a header takes in its frame: the length and the text of its name, a type, and the length and
/// the text of its value.
pub(super) fn weight(name: &str, value: &str) -> usize {
    1 + name.len() + 1 + 4 + value.len()
}

/// Returns the reason that a message cannot have this name, exchange or routing key; `None` if it can.
pub(super) fn too_long(what: &str, text: &str) -> Option<String> {
    (text.len() > NAME).then(|| {
        let begin: String = text.chars().take(40).collect();
        format!(
            "{what} {begin:?}… has {} bytes, and at most {NAME} are allowed",
            text.len()
        )
    })
}

/// Leaves out headers until the rest weighs at most `room`, less what the publisher adds, and notes it in the header
/// [`CUT`].
///
/// The heaviest go first. The envelope's headers, and ours, stay as long as there is another.
pub(super) fn cut(headers: &mut BTreeMap<String, String>, room: usize) {
    let weigh = |headers: &BTreeMap<String, String>| -> usize {
        headers
            .iter()
            .map(|(name, value)| weight(name, value))
            .sum()
    };
    let room = room.saturating_sub(CONTEXT);
    let mut total = weigh(headers);
    if total <= room && headers.keys().all(|name| name.len() <= NAME) {
        return;
    }
    let of = headers.len();
    let room = room.saturating_sub(NOTE);
    let mut heaviest: Vec<(bool, usize, String)> = headers
        .iter()
        .map(|(name, value)| (is_needed(name), weight(name, value), name.clone()))
        .collect();
    heaviest.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut left_out: Vec<String> = Vec::new();
    for (_, weight, name) in heaviest {
        if total > room || name.len() > NAME {
            headers.remove(&name);
            total -= weight;
            left_out.push(name);
        }
    }
    let names = left_out.join(", ");
    let names: String = names.chars().take(100).collect();
    let note = format!("{} of {of} headers: {names}", left_out.len());
    headers.insert(CUT.to_owned(), note);
}

/// Returns whether a header is the envelope's, ours, or the trace's. Such headers are cut last.
fn is_needed(name: &str) -> bool {
    name.starts_with("cloudEvents_") || name.starts_with("holdfast-") || name == "traceparent"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&str, usize)]) -> BTreeMap<String, String> {
        of.iter()
            .map(|(name, length)| ((*name).to_owned(), "x".repeat(*length)))
            .collect()
    }

    #[test]
    fn headers_that_fit_stay_as_they_are() {
        let mut whole = headers(&[("baggage", 100), ("cloudEvents_id", 36)]);
        let before = whole.clone();
        cut(&mut whole, 200 + CONTEXT);
        assert_eq!(whole, before);
    }

    #[test]
    fn heaviest_header_is_cut_first_and_the_envelope_last() {
        let mut large = headers(&[
            ("baggage", 3000),
            ("cloudEvents_type", 2000),
            ("holdfast-cause", 20),
            ("note", 500),
        ]);
        cut(&mut large, 4000 + CONTEXT);
        let note = large.remove(CUT).expect("a note");
        assert_eq!(note, "1 of 4 headers: baggage");
        assert_eq!(
            large,
            headers(&[
                ("cloudEvents_type", 2000),
                ("holdfast-cause", 20),
                ("note", 500)
            ])
        );
        cut(&mut large, 1600 + CONTEXT);
        let note = large.remove(CUT).expect("a note");
        assert_eq!(note, "2 of 3 headers: note, cloudEvents_type");
        assert_eq!(large, headers(&[("holdfast-cause", 20)]));
    }

    #[test]
    fn name_that_no_frame_can_hold_is_cut() {
        let long = "n".repeat(256);
        let mut headers = headers(&[(long.as_str(), 1), ("note", 1)]);
        cut(&mut headers, 10_000);
        assert!(headers[CUT].starts_with("1 of 2 headers: nnn"));
        assert!(headers.contains_key("note") && !headers.contains_key(&long));
    }
}
