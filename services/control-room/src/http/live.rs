//! The stream: server-sent events to the watchers.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix_web::{HttpResponse, get, http::header, web};
use chassis::http::Problem;
use futures_util::stream;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{
    State,
    visitor::{Guarded, Visitor},
};
use crate::commands::{Frame, Room};

/// The longest silence of a stream. After it a comment is sent, so that proxies and browsers do not take it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A server-sent event.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it stands in the document alone")]
struct Event {
    /// The event's name: `snapshot`, `order`, `health`, `trouble`, `invariants` or `drill`.
    event: String,
    /// The event's data, as one line of JSON.
    data: String,
}

/// A client of the stream.
struct Watcher {
    room: Arc<Room>,
    feed: broadcast::Receiver<Frame>,
    waiting: VecDeque<Frame>,
    closing: CancellationToken,
    quiet_until: Instant,
    /// Released when the stream is dropped: at its end, or with its connection.
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    /// Returns the next bytes of the stream; `None` once the room closes. A watcher that was too slow for the feed gets
    /// a new snapshot.
    async fn next(&mut self) -> Option<web::Bytes> {
        let frame = if let Some(frame) = self.waiting.pop_front() {
            frame
        } else {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                told = self.feed.recv() => match told {
                    Ok(frame) => frame,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.room.snapshot(),
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
                () = sleep_until(self.quiet_until) => {
                    self.quiet_until = Instant::now() + KEEP_ALIVE;
                    return Some(web::Bytes::from_static(b": still here\n\n"));
                }
            }
        };
        self.quiet_until = Instant::now() + KEEP_ALIVE;
        // Compact JSON contains no line breaks.
        let text = format!("event: {}\ndata: {}\n\n", frame.event, frame.data);
        Some(web::Bytes::from(text))
    }
}

/// Streams what happens: `snapshot`, `order`, `health`, `trouble`, `invariants` and `drill`.
///
/// Server-sent events without an end. The data of each is one line of JSON.
#[utoipa::path(tag = "room", operation_id = "watch", responses(
    Guarded,
    (
        status = 200, description = "The stream.",
        content((Event = "text/event-stream", example = json!({ "event": "trouble", "data": "{}" }))),
    ),
    (status = 503, description = "Too many streams are open."),
))]
#[get("/room/live")]
pub(super) async fn live(_: Visitor, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let permit = Arc::clone(&state.watchers)
        .try_acquire_owned()
        .map_err(|_| Problem::unavailable("too many streams are open"))?;
    let (feed, waiting) = state.room.watch();
    let watcher = Watcher {
        room: Arc::clone(&state.room),
        feed,
        waiting: waiting.into(),
        closing: state.closing.clone(),
        quiet_until: Instant::now() + KEEP_ALIVE,
        _permit: permit,
    };
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), watcher))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(frames))
}
