//! Learns from the order service which orders came to rest, and when.
//!
//! It reads the operator's list of orders, newest first, in pages: one request looks at up to 200 orders. The pages
//! show `updated_at`, so that infrequent looks do not lengthen any latency. Between two rounds it pauses for nine times
//! the duration of a round, so that it takes at most a tenth of one connection's time, and counts its requests.

use std::time::Duration;

use contracts::value::OrderId;
use holdfast::backoff::pause;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    board::{Board, Seen},
    schedule::Ticket,
};
use crate::api::{Api, ApiError};

/// The shortest pause between two rounds.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest page that the order service returns.
const PAGE: usize = 200;

#[derive(Deserialize)]
struct Page {
    orders: Vec<Seen>,
}

/// The cost of watching the orders.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Cost {
    /// Requests to the order service.
    pub pages: u64,
    /// Orders that were looked at.
    pub orders: u64,
    /// Requests that failed, and were repeated in the next round.
    pub failed: u64,
    /// Seconds for which a request was under way.
    pub busy_seconds: f64,
}

/// Follows all orders of the board until `stop`; sends the cancels that become due to `tickets`.
pub async fn watch(
    api: &Api,
    board: &Board,
    tickets: &UnboundedSender<Ticket>,
    stop: &CancellationToken,
) -> Cost {
    let mut cost = Cost::default();
    loop {
        let begun = Instant::now();
        round(api, board, tickets, &mut cost).await;
        let took = begun.elapsed();
        cost.busy_seconds += took.as_secs_f64();
        let rest = pause(PAUSE.max(took * 9));
        if stop.run_until_cancelled(rest).await.is_none() {
            return cost;
        }
    }
}

/// Looks once at each order that is not known to rest.
async fn round(api: &Api, board: &Board, tickets: &UnboundedSender<Ticket>, cost: &mut Cost) {
    let waiting = board.waiting();
    let mut left: &[OrderId] = &waiting;
    while let Some(newest) = left.last() {
        // Orders of other programs, and orders at rest, may lie in between.
        let limit = (left.len() * 2).clamp(10, PAGE);
        let path = format!("/orders?limit={limit}&before={}", after(*newest));
        cost.pages += 1;
        let page: Page = match api.orders(&path).await {
            Ok(page) => page,
            Err(error) => {
                cost.failed += 1;
                if !matches!(error, ApiError::Later(_) | ApiError::Unreachable(_)) {
                    board.error(format!("watching: {error}"));
                }
                return;
            }
        };
        cost.orders += page.orders.len() as u64;
        for seen in &page.orders {
            if let Some(ticket) = board.seen(seen) {
                // An error means that the run is over.
                let _ = tickets.send(ticket);
            }
        }
        let Some(oldest) = page.orders.last().map(|order| order.id) else {
            return;
        };
        left = &left[..left.partition_point(|id| *id < oldest)];
    }
}

/// Returns the id right after this one: `before` excludes the order that it names.
fn after(id: OrderId) -> Uuid {
    Uuid::from_u128(id.0.as_u128().saturating_add(1))
}
