//! `Confirmed` means stored and routed.

use holdfast::{
    messaging::Publisher,
    outbox::{Message, Outcome, Publisher as _},
};
use testkit::{Probe, Proxy, Vhost, cut, eventually};

use crate::helpers::message;

#[tokio::test]
async fn each_of_a_batch_gets_its_own_answer() {
    let vhost = Vhost::create().await;
    let probe = Probe::attach(&vhost).await;
    let publisher = Publisher::new(vhost.url("order"), "test");
    // A returned message may come with the confirm of another one: the batch is large and mixed, to provoke that.
    for round in 0..5 {
        let batch: Vec<Message> = (0..200)
            .map(|n| {
                let mut message = message(&format!("{round} {n}"), "work");
                if n % 7 == 0 {
                    message.exchange = "retry".to_owned();
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
async fn one_message_that_breaks_the_channel_is_the_only_one_refused() {
    let vhost = Vhost::create().await;
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

#[tokio::test]
async fn without_a_broker_nothing_is_known_and_with_it_everything_works_again() {
    let vhost = Vhost::create().await;
    let proxy = Proxy::start(vhost.server()).await;
    let publisher = Publisher::new(vhost.url_via("order", proxy.address()), "test");
    let link = publisher.link();
    assert!(!link.is_up(), "it connects when it is used");
    publisher.ready().await.expect("the broker answers");
    assert!(link.is_up());

    proxy.cut();
    let batch = [message("lost", "work")];
    // The first may still find the connection open; nothing is ever called confirmed.
    for _ in 0..3 {
        assert_eq!(publisher.publish(&batch).await, [Outcome::Unknown]);
    }
    assert!(publisher.ready().await.is_err());
    assert!(!link.is_up());

    proxy.restore();
    publisher.ready().await.expect("the broker answers again");
    assert_eq!(publisher.publish(&batch).await, [Outcome::Confirmed]);

    // The operator closes the connection under us.
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

/// A batch that was dropped has no outcome, and its confirms are not taken for those of the next batch.
#[tokio::test]
async fn cut_publish_leaves_the_next_batch_its_own_outcomes() {
    let vhost = Vhost::create().await;
    let publisher = Publisher::new(vhost.url("order"), "test");
    for polls in 0.. {
        let mut first: Vec<Message> = (0..7).map(|n| message(&format!("{n}"), "work")).collect();
        for message in &mut first[..3] {
            message.routing_key = "nobody".to_owned();
            message.exchange = holdfast::messaging::RETRY_EXCHANGE.to_owned();
        }
        let ended = cut(polls, publisher.publish(&first)).await.is_some();

        let mut second: Vec<Message> = (0..2).map(|n| message(&format!("{n}"), "work")).collect();
        second[1].routing_key = "nobody".to_owned();
        second[1].exchange = holdfast::messaging::RETRY_EXCHANGE.to_owned();
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
