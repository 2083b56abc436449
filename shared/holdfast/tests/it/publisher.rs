//! `Confirmed` means stored and routed.

use std::time::Duration;

use holdfast::{
    messaging::Publisher,
    outbox::{Message, Outcome, Publisher as _},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use testkit::{Probe, Proxy, Vhost, cut, eventually};
use tokio::time::timeout;

use crate::helpers::message;

#[tokio::test]
async fn each_message_of_a_batch_has_its_own_outcome() {
    let vhost = Vhost::of("payment").await;
    let probe = Probe::attach(&vhost).await;
    let publisher = Publisher::new(vhost.url("order"), "test");
    // A returned message may arrive with the confirm of another one: a large, mixed batch provokes that.
    for round in 0..5 {
        let batch: Vec<Message> = (0..200)
            .map(|n| {
                let mut message = message(&format!("{round} {n}"), "work");
                if n % 7 == 0 {
                    message.exchange = "retry.order".to_owned();
                    message.routing_key = "nobody".to_owned();
                }
                message
            })
            .collect();
        let outcomes = publisher.publish(&batch).await;
        assert_eq!(outcomes.len(), batch.len());
        for (n, (outcome, message)) in outcomes.iter().zip(&batch).enumerate() {
            if n % 7 == 0 {
                assert!(
                    matches!(outcome, Outcome::Refused(why) if why.contains("NO_ROUTE")),
                    "{n}: {outcome:?}"
                );
            } else {
                assert_eq!(*outcome, Outcome::Confirmed, "{n}");
                probe
                    .wait_for("order.created.v1", &message.headers["cloudEvents_subject"])
                    .await;
            }
        }
    }
    publisher.close().await;
    vhost.delete().await;
}

#[tokio::test]
async fn message_that_breaks_the_channel_is_refused_alone() {
    let vhost = Vhost::of("payment").await;
    let probe = Probe::attach(&vhost).await;
    let publisher = Publisher::new(vhost.url("order"), "test");
    let mut batch: Vec<Message> = (0..20).map(|n| message(&format!("{n}"), "work")).collect();
    batch[10].exchange = "no such exchange".to_owned();
    let outcomes = publisher.publish(&batch).await;
    for (n, (outcome, message)) in outcomes.iter().zip(&batch).enumerate() {
        if n == 10 {
            assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        } else {
            assert_eq!(*outcome, Outcome::Confirmed, "{n}");
            probe
                .wait_for("order.created.v1", &message.headers["cloudEvents_subject"])
                .await;
        }
    }
    publisher.close().await;
    vhost.delete().await;
}

/// After a message that broke the channel, the next batch opens another, and may find the connection broken, too: the
/// broker closes it if a publish of the old channel arrives late.
#[tokio::test]
async fn connection_found_broken_before_a_batch_is_replaced() {
    let vhost = Vhost::of("payment").await;
    let proxy = Proxy::start(vhost.server()).await;
    let publisher = Publisher::new(vhost.url_via("order", proxy.address()), "test");
    let mut bad = message("refused", "work");
    bad.exchange = "no such exchange".to_owned();
    let outcomes = publisher.publish(&[bad]).await;
    assert!(
        matches!(&outcomes[..], [Outcome::Refused(_)]),
        "{outcomes:?}"
    );

    proxy.lose_connection();
    let outcomes = publisher.publish(&[message("next", "work")]).await;
    assert_eq!(outcomes, [Outcome::Confirmed]);
    assert_eq!(proxy.connections(), 2);
    publisher.close().await;
    vhost.delete().await;
}

#[tokio::test]
async fn publisher_without_a_broker_confirms_nothing_and_recovers() {
    let vhost = Vhost::of("payment").await;
    let proxy = Proxy::start(vhost.server()).await;
    let publisher = Publisher::new(vhost.url_via("order", proxy.address()), "test");
    let link = publisher.link();
    assert!(!link.is_up(), "it connects when it is used");
    publisher.ready().await.expect("the broker answers");
    assert!(link.is_up());

    proxy.cut();
    let batch = [message("lost", "work")];
    // The first batch may still find the connection open, but no batch is reported as confirmed.
    for _ in 0..3 {
        assert_eq!(publisher.publish(&batch).await, [Outcome::Unknown]);
    }
    assert!(publisher.ready().await.is_err());
    assert!(!link.is_up());

    proxy.restore();
    publisher.ready().await.expect("the broker answers again");
    assert_eq!(publisher.publish(&batch).await, [Outcome::Confirmed]);

    // An operator closes the connection.
    eventually("a connection to close", || async {
        if vhost.close_connections("test").await == 1 {
            Ok(())
        } else {
            Err("none")
        }
    })
    .await;
    while publisher.publish(&batch).await != [Outcome::Confirmed] {}
    publisher.close().await;
    vhost.delete().await;
}

/// A dropped batch has no outcome, and its confirms must not count for the next batch.
#[tokio::test]
async fn cut_publish_leaves_the_next_batch_its_own_outcomes() {
    let vhost = Vhost::of("payment").await;
    let publisher = Publisher::new(vhost.url("order"), "test");
    for polls in 0.. {
        let mut first: Vec<Message> = (0..7).map(|n| message(&format!("{n}"), "work")).collect();
        for message in &mut first[..3] {
            message.routing_key = "nobody".to_owned();
            message.exchange = holdfast::messaging::retry_exchange("order.timeline");
        }
        let ended = cut(polls, publisher.publish(&first)).await.is_some();

        let mut second: Vec<Message> = (0..2).map(|n| message(&format!("{n}"), "work")).collect();
        second[1].routing_key = "nobody".to_owned();
        second[1].exchange = holdfast::messaging::retry_exchange("order.timeline");
        let outcomes = publisher.publish(&second).await;
        assert!(
            matches!(&outcomes[..], [Outcome::Confirmed, Outcome::Refused(_)]),
            "after a cut at wait {polls}: {outcomes:?}"
        );
        if ended {
            break;
        }
    }
    publisher.close().await;
    vhost.delete().await;
}

/// AMQP does not split a header frame, and the broker closes the connection at one that is too large.
#[tokio::test]
async fn message_that_no_frame_can_hold_is_refused_alone() {
    let vhost = Vhost::of("payment").await;
    let probe = Probe::attach(&vhost).await;
    let publisher = Publisher::new(vhost.url("order"), "test");
    publisher.ready().await.expect("the broker answers");
    let lost = tokio::spawn({
        let link = publisher.link();
        async move { link.down().await }
    });

    let mut batch: Vec<Message> = (0..8).map(|n| message(&format!("{n}"), "work")).collect();
    batch[1]
        .headers
        .insert("baggage".to_owned(), "x".repeat(131_000));
    batch[2].headers.insert("n".repeat(256), String::new());
    batch[3].routing_key = "k".repeat(256);
    batch[4].exchange = "e".repeat(256);
    batch[5]
        .headers
        .insert("baggage".to_owned(), "x".repeat(100_000));
    let outcomes = publisher.publish(&batch).await;
    let why = [
        None,
        Some("its headers take 131"),
        Some("the name of a header"),
        Some("the routing key"),
        Some("the exchange"),
        None,
        None,
        None,
    ];
    for (n, ((outcome, message), why)) in outcomes.iter().zip(&batch).zip(why).enumerate() {
        match (outcome, why) {
            (Outcome::Refused(said), Some(why)) => assert!(said.starts_with(why), "{n}: {said}"),
            (outcome, None) => {
                assert_eq!(*outcome, Outcome::Confirmed, "{n}");
                probe
                    .wait_for("order.created.v1", &message.headers["cloudEvents_subject"])
                    .await;
            }
            (outcome, Some(_)) => panic!("{n}: {outcome:?}"),
        }
    }
    assert!(!lost.is_finished(), "the connection is still the first one");
    publisher.close().await;
    vhost.delete().await;
}

/// Returns a method frame on channel 0, of the class `connection`.
fn connection_method(method: u8, arguments: &[u8]) -> Vec<u8> {
    let payload = [&[0, 10, 0, method], arguments].concat();
    let length = u32::try_from(payload.len()).expect("short");
    [&[1, 0, 0], &length.to_be_bytes()[..], &payload, &[0xce]].concat()
}

/// RabbitMQ blocks a publishing connection while memory or disk are short: it announces that, and reads nothing more
/// from it. An alarm would affect the whole broker, and with it other tests, so the proxy sends the frames in the
/// broker's place.
#[tokio::test]
async fn publisher_that_the_broker_blocks_says_so_and_goes_on_after() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let is_blocked = |blocked: bool| {
        let line = format!("publisher_blocked {}", u8::from(blocked));
        metrics.render().lines().any(|seen| seen == line)
    };

    let vhost = Vhost::of("payment").await;
    let proxy = Proxy::start(vhost.server()).await;
    let publisher = Publisher::new(vhost.url_via("order", proxy.address()), "test blocked");
    let link = publisher.link();
    publisher.ready().await.expect("the broker answers");
    assert!(link.is_up() && is_blocked(false));

    // In the middle of a batch, which is confirmed when the broker takes messages again.
    proxy.pause();
    let batch = [message("one", "work"), message("two", "work")];
    let publishing = publisher.publish(&batch);
    let meanwhile = async {
        // The pause also holds up what the server sends, but not the proxy's own frames.
        proxy.say(&connection_method(60, b"\x0alow memory"));
        link.down().await;
        assert!(is_blocked(true));
        proxy.say(&connection_method(61, &[]));
        proxy.restore();
        link.up().await;
        assert!(is_blocked(false));
    };
    let (outcomes, ()) = tokio::join!(publishing, meanwhile);
    assert_eq!(outcomes, [Outcome::Confirmed, Outcome::Confirmed]);

    // Longer than a batch may take: the batch has unknown outcomes, and the connection stays.
    proxy.pause();
    let publishing = publisher.publish(&batch);
    let meanwhile = async {
        proxy.say(&connection_method(60, b"\x0alow memory"));
        link.down().await;
    };
    let (outcomes, ()) = tokio::join!(publishing, meanwhile);
    assert_eq!(outcomes, [Outcome::Unknown, Outcome::Unknown]);
    let why = publisher.ready().await.expect_err("it is blocked");
    assert!(why.to_string().contains("takes nothing"), "{why}");
    let at_once = timeout(Duration::from_secs(5), publisher.publish(&batch)).await;
    assert_eq!(at_once, Ok(vec![Outcome::Unknown, Outcome::Unknown]));
    assert!(!link.is_up() && is_blocked(true));

    proxy.say(&connection_method(61, &[]));
    proxy.restore();
    eventually("the broker takes messages again", || async {
        publisher.ready().await
    })
    .await;
    assert!(link.is_up() && is_blocked(false));
    assert_eq!(
        publisher.publish(&batch).await,
        [Outcome::Confirmed, Outcome::Confirmed]
    );
    eventually("one connection, the first one", || async {
        match vhost.close_connections("test blocked").await {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    publisher.close().await;
    vhost.delete().await;
}
