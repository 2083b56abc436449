//! A message that cannot be handled leaves its queue once its copy is safe, and not before.

use holdfast::messaging::{Consumers, Publisher, Subscription, parking};
use testkit::{Depth, Probe, Proxy, Vhost, eventually};
use tokio_util::sync::CancellationToken;

use crate::helpers::{Effects, QUEUE, database, message, wait_for_empty};

/// The connection for copies is cut; the connection for deliveries is not.
#[tokio::test]
async fn copy_that_is_not_confirmed_is_sent_again() {
    let ((_, pool), vhost) = tokio::join!(database("diverting"), Vhost::of("payment"));
    let probe = Probe::attach(&vhost).await;
    let proxy = Proxy::start(vhost.server()).await;
    let publisher = Publisher::new(vhost.url_via("payment", proxy.address()), "copies");
    let consumers = Consumers::new(
        vhost.url("payment"),
        "consumer",
        publisher.clone(),
        pool.clone(),
    )
    .consume(Subscription::new(QUEUE), Effects::new());
    let (link, shutdown) = (consumers.link(), CancellationToken::new());
    let task = tokio::spawn(consumers.run(shutdown.clone()));
    link.up().await;

    proxy.cut();
    probe.send(message("bad", "reject")).await;
    let in_hand = Depth {
        ready: 0,
        unacknowledged: 1,
    };
    eventually("the message in hand", || async {
        let depth = vhost.depth(QUEUE).await;
        if depth == in_hand {
            Ok(())
        } else {
            Err(format!("{depth:?}"))
        }
    })
    .await;
    // The copy is resent again and again, and each connection is refused at once.
    let before = proxy.connections();
    eventually("several attempts", || async {
        let tried = proxy.connections() - before;
        if tried > 2 { Ok(()) } else { Err(tried) }
    })
    .await;
    assert_eq!(vhost.depth(QUEUE).await, in_hand, "it is not acknowledged");

    proxy.restore();
    let parked = eventually("it is parked", || async {
        let parked = parking::list(&pool, "parked", None, 10).await;
        let parked = parked.expect("the table is there");
        if parked.len() == 1 {
            Ok(parked)
        } else {
            Err("it is not")
        }
    })
    .await;
    assert_eq!(parked[0].cause, "rejected");
    wait_for_empty(&vhost).await;
    shutdown.cancel();
    task.await.expect("the consumer does not panic");
    publisher.close().await;
    vhost.delete().await;
}
