//! One order of each ending, watched until it is at rest.

use std::time::Duration;

use anyhow::Context;
use contracts::value::OrderId;
use futures_util::future::join_all;
use holdfast::backoff::pause;
use serde_json::Value;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::{
    Coordination, Ways,
    ending::{Cancel, Ending},
};
use crate::{
    api::{Api, PATIENCE, insist},
    table,
};

/// Places one order of each ending, by each of these ways, waits for all, and shows the table. Returns false if one did
/// not end as expected.
#[expect(clippy::print_stdout, reason = "it is what its user sees")]
pub async fn once(api: &Api, ways: Ways) -> anyhow::Result<bool> {
    println!(
        "placing one order of each ending{}",
        match ways {
            Ways::Both => ", each way",
            Ways::Choreography | Ways::Orchestration => "",
        }
    );
    let orders: Vec<(Ending, Coordination)> = ways
        .all()
        .iter()
        .flat_map(|way| Ending::ALL.map(|ending| (ending, *way)))
        .collect();
    // All at once, which takes as long as the slowest alone.
    let watched = join_all(orders.iter().map(|(ending, way)| watch(api, *ending, *way))).await;
    let mut rows = Vec::new();
    let mut as_expected = true;
    for ((ending, way), watched) in orders.into_iter().zip(watched) {
        let (id, end) =
            watched.with_context(|| format!("{}: {}", way.name(), ending.describe()))?;
        let (state, reason) = ending.expected();
        let books = ending.expected_books(way);
        let good = end.state == state
            && end.reason.as_deref() == reason
            && books.contains(&(&end.payment, &end.stock))
            && end.mails > 0;
        as_expected &= good;
        rows.push(vec![
            id.to_string(),
            way.name().to_owned(),
            ending.describe().to_owned(),
            end.reason.map_or(end.state.clone(), |reason| {
                format!("{}: {reason}", end.state)
            }),
            end.payment,
            end.stock,
            end.mails.to_string(),
            format!("{} ms", end.took.as_millis()),
            if good {
                "as it should".to_owned()
            } else {
                let (payment, stock) = books[0];
                format!("should be {state}, {payment}, {stock}")
            },
        ]);
    }
    let head = [
        "order",
        "way",
        "what happens",
        "end",
        "payment",
        "stock",
        "mails",
        "at rest after",
        "",
    ];
    println!("\n{}\n", table::render(&head, &rows));
    Ok(as_expected)
}

/// The end of an order, as the services show it.
struct End {
    state: String,
    reason: Option<String>,
    payment: String,
    stock: String,
    mails: usize,
    took: Duration,
}

async fn watch(api: &Api, ending: Ending, way: Coordination) -> anyhow::Result<(OrderId, End)> {
    let begun = Instant::now();
    let customer = ending.customer();
    let (order, key) = (ending.order(way), Uuid::now_v7().to_string());
    let placed = insist(|| api.place(customer, &key, &order)).await?;
    let id: OrderId = text(&placed, "id").parse()?;
    if ending.cancel() == Cancel::AtOnce {
        insist(|| api.cancel(customer, id)).await?;
    }
    let mut order = at_rest(api, id).await?;
    if ending.cancel() == Cancel::WhenConfirmed {
        anyhow::ensure!(
            text(&order, "state") == "confirmed",
            "not confirmed, so it cannot be cancelled after that: {order}"
        );
        insist(|| api.cancel(customer, id)).await?;
        order = at_rest(api, id).await?;
    }
    let took = begun.elapsed();
    Ok((
        id,
        End {
            state: text(&order, "state"),
            reason: order["reason"].as_str().map(str::to_owned),
            payment: insist(|| api.payment_state(id)).await?,
            stock: insist(|| api.stock_state(id)).await?,
            mails: mails_sent(api, id, &text(&order, "state")).await?,
            took,
        },
    ))
}

/// Waits until an order is at rest.
async fn at_rest(api: &Api, id: OrderId) -> anyhow::Result<Value> {
    let resting = async {
        loop {
            let order = insist(|| api.order(id)).await?;
            if order["at_rest"] == true {
                return anyhow::Ok(order);
            }
            pause(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, resting)
        .await
        .with_context(|| format!("order {id} is not at rest after {PATIENCE:?}"))?
}

/// Waits until the mail about an order's end is sent, and returns the number of its mails that are sent.
async fn mails_sent(api: &Api, id: OrderId, state: &str) -> anyhow::Result<usize> {
    let sent = async {
        loop {
            let mails = insist(|| api.mails(id)).await?;
            let sent: Vec<&Value> = mails
                .iter()
                .filter(|mail| mail["state"] == "sent")
                .collect();
            if sent
                .iter()
                .any(|mail| mail["kind"] == format!("order.{state}"))
            {
                return anyhow::Ok(sent.len());
            }
            pause(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, sent)
        .await
        .with_context(|| format!("no mail about order {id} after {PATIENCE:?}"))?
}

pub(super) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
