//! Every message comes twice, once of them as if it had been sent anew, each copy after a random delay, in the order that
//! results: the same ends, money and goods.

use crate::system::System;

#[tokio::test]
async fn every_message_twice_late_and_in_any_order() {
    let system = System::start_with(&[("CONSUMER_CHAOS", "300")]).await;
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.extend(system.place_all().await);
    }
    system.ended_as_expected(&placed).await;
    // The switch was on: what was sent anew was not caught by the inbox but by the effects' own keys.
    for service in ["order", "payment", "inventory", "notification"] {
        assert!(
            system
                .whole_log(service)
                .contains("this consumer repeats, delays and reorders what it is given"),
            "{service}"
        );
        assert!(system.parked(service).await.is_empty(), "{service}");
    }
    system.end().await;
}
