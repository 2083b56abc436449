//! Bulkhead: one slow dependency takes its own places, and no others. Needs nothing but this process.
//!
//! ```console
//! $ cargo run -p holdfast --example bulkhead
//! ```
//!
//! A shop can serve ten customers at a time. Half of its customers want to pay by card, the others only want to look at
//! an order; and the card processor has become slow.

#![expect(clippy::print_stdout, reason = "an example talks")]
#![expect(clippy::disallowed_methods, reason = "the work is simulated")]

use std::{sync::Arc, time::Duration};

use holdfast::bulkhead::{Bulkhead, Full, Limits};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

const CUSTOMERS: u32 = 60;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    println!(
        "{CUSTOMERS} customers come, one every 5 ms; the card processor takes 500 ms for each.\n"
    );
    let none = Limits {
        max_concurrent: 100_000,
        max_waiting: 0,
        max_wait: Duration::ZERO,
    };
    println!("1. A customer who pays keeps one of ten hands until the card processor answers.");
    shop(Bulkhead::new("card-processor", none)?).await;

    println!(
        "\n2. With a bulkhead: three calls to the card processor at a time, three more may wait, for 50 ms."
    );
    let limits = Limits {
        max_concurrent: 3,
        max_waiting: 3,
        max_wait: Duration::from_millis(50),
    };
    shop(Bulkhead::new("card-processor", limits)?).await;
    println!(
        "\n   Rejected customers were told at once, and the card processor got no call for them."
    );
    Ok(())
}

/// The outcome for one customer.
enum End {
    Looked(Duration),
    Paid,
    TurnedAway,
}

async fn shop(cards: Bulkhead) {
    // The resources that every request needs: threads, connections, memory. Here: ten hands.
    let hands = Arc::new(Semaphore::new(10));
    let mut customers = JoinSet::new();
    for number in 0..CUSTOMERS {
        let (hands, cards) = (Arc::clone(&hands), cards.clone());
        customers.spawn(async move {
            let came = Instant::now();
            let _hand = hands.acquire().await;
            if number % 2 == 0 {
                return End::Looked(came.elapsed());
            }
            match pay(&cards).await {
                Ok(()) => End::Paid,
                Err(_full) => End::TurnedAway,
            }
        });
        sleep(Duration::from_millis(5)).await;
    }
    let (mut looked, mut slowest, mut paid, mut away) = (0, Duration::ZERO, 0, 0);
    while let Some(Ok(end)) = customers.join_next().await {
        match end {
            End::Looked(waited) => {
                looked += 1;
                slowest = slowest.max(waited);
            }
            End::Paid => paid += 1,
            End::TurnedAway => away += 1,
        }
    }
    println!(
        "   {looked} only looked, and waited up to {slowest:.0?}; {paid} paid, {away} were rejected"
    );
}

async fn pay(cards: &Bulkhead) -> Result<(), Full> {
    // The place is freed when it is dropped: after the call, in a panic, or when the customer leaves.
    let _place = cards.acquire().await?;
    sleep(Duration::from_millis(500)).await;
    Ok(())
}
