//! An observer sees what it watches, without any effect on other consumers.

use std::time::Duration;

use holdfast::{
    messaging::{Event, Observer, Publisher, Sighting, Watch},
    outbox::{Message, Outcome, Publisher as _},
};
use testkit::{Proxy, Vhost};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const WATCHED: [Watch<'static>; 3] = [
    Watch {
        exchange: "events",
        key: "#",
    },
    Watch {
        exchange: "commands.orchestrator",
        key: "payment",
    },
    Watch {
        exchange: "replies.payment",
        key: "orchestrator",
    },
];

fn message(subject: &str, exchange: &str, key: &str) -> Message {
    let event = Event::new("test.said.v1", "/test", subject.to_owned(), b"{}".to_vec());
    event.into_message(exchange, key.to_owned())
}

/// Returns exchange, key and subject of the next sighting of a message; `None` for the observer's attaching.
async fn next(seen: &mut UnboundedReceiver<Sighting>) -> Option<(String, String, String)> {
    let sighting = timeout(Duration::from_secs(30), seen.recv()).await;
    match sighting.expect("it sees something").expect("it runs") {
        Sighting::Attached => None,
        Sighting::Event {
            exchange,
            routing_key,
            event,
        } => Some((exchange, routing_key, event.subject)),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "it is compared with what `next` answers"
)]
fn was(exchange: &str, key: &str, subject: &str) -> Option<(String, String, String)> {
    Some((exchange.to_owned(), key.to_owned(), subject.to_owned()))
}

#[tokio::test]
async fn observer_sees_only_what_it_watches_on_every_exchange() {
    let vhost = Vhost::of("payment").await;
    let proxy = Proxy::start(vhost.server()).await;
    // Only the front page's user may watch.
    let url = vhost.url_via("control-room", proxy.address());
    let observer = Observer::new(url, "test observer", "control-room.live");
    let link = observer.link();
    let shutdown = CancellationToken::new();
    let (tell, mut seen) = unbounded_channel();
    let task = tokio::spawn({
        let shutdown = shutdown.clone();
        async move {
            let see = |sighting| drop(tell.send(sighting));
            observer.run(&WATCHED, shutdown, see).await;
        }
    });
    assert_eq!(next(&mut seen).await, None, "first of all it is attached");
    link.up().await;

    let publisher = Publisher::new(vhost.url("admin"), "test");
    let batch = [
        message("1", "events", "choreography.test.said.v1"),
        message("2", "commands.orchestrator", "payment"),
        // No watch matches the commands to inventory.
        message("3", "commands.orchestrator", "inventory"),
        message("4", "replies.payment", "orchestrator"),
    ];
    let outcomes = publisher.publish(&batch).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Outcome::Confirmed)
    );
    let event = was("events", "choreography.test.said.v1", "1");
    assert_eq!(next(&mut seen).await, event);
    assert_eq!(
        next(&mut seen).await,
        was("commands.orchestrator", "payment", "2")
    );
    assert_eq!(
        next(&mut seen).await,
        was("replies.payment", "orchestrator", "4")
    );

    // The observer reconnects by itself, and reports when it sees messages again.
    proxy.cut();
    link.down().await;
    proxy.restore();
    assert_eq!(next(&mut seen).await, None, "attached again");
    publisher
        .publish(&[message("5", "replies.payment", "orchestrator")])
        .await;
    assert_eq!(
        next(&mut seen).await,
        was("replies.payment", "orchestrator", "5")
    );

    shutdown.cancel();
    task.await.expect("it does not panic");
    assert!(!link.is_up());
    publisher.close().await;
    vhost.delete().await;
}
