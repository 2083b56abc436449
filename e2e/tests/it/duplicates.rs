//! Every message arrives twice, half of them under a new id, each copy after a random delay and in the resulting order.
//! The ends, the money and the goods are the same as without.

use crate::system::System;

#[tokio::test]
async fn repeated_late_and_reordered_messages_change_no_ending() {
    let system = System::start_with(&[("CONSUMER_CHAOS", "300")]).await;
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.extend(system.place_all().await);
    }
    system.ended_as_expected(&placed).await;
    // The switch was on: copies under a new id pass the inbox, and are caught by the effects' own keys.
    for service in ["order", "payment", "inventory", "notification"] {
        assert!(
            system
                .whole_log(service)
                .contains("consumers repeat, delay and reorder what they are given"),
            "{service}"
        );
        assert!(system.parked(service).await.is_empty(), "{service}");
    }
    system.end().await;
}
