//! Many orders at once, each with a fault of its own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::Value;
use testkit::{Interposer, answer, eventually};
use tokio::sync::watch;

use super::{
    BINDINGS,
    cell::{Fault, Ran, saga_named},
    one::One,
    order_of,
    table::{self, Row},
};
use crate::system::System;

/// A customer with one euro, and one with more.
const POOR: &str = "dave";
const RICH: &str = "alice";
/// Goods in stock, and goods out of stock.
const IN_STOCK: &str = "TEA-ASSAM";
const OUT_OF_STOCK: &str = "SAMOVAR";

/// The phase of every saga, by its id.
pub(super) type Phases = Arc<HashMap<String, String>>;

/// The system that the crowd is in.
#[derive(Clone)]
pub(super) struct Crowd<'a> {
    pub(super) system: &'a System,
    pub(super) between: &'a Interposer,
    pub(super) phases: watch::Receiver<Phases>,
}

/// Tries every cell of the table, all at once.
pub(super) async fn run(ran: &Ran) {
    // Sagas give up after 20 s instead of 1000 s.
    let settings = [
        ("SAGA_PACE", "2"),
        ("SAGA_POLL_MS", "50"),
        ("SWEEP_AFTER_MS", "600000"),
    ];
    let system = System::start_with(&settings).await;
    let between = Interposer::attach(&system.vhost, &BINDINGS).await;
    let (found, phases) = watch::channel(Phases::default());
    let crowd = Crowd {
        system: &system,
        between: &between,
        phases,
    };
    let rows = table::rows();
    let cells = futures_util::future::join_all(rows.iter().map(|row| async {
        crowd.clone().one(row).await;
        ran.add(row.cell);
    }));
    tokio::select! {
        _ = cells => {}
        () = look(&system, &found) => {}
    }
    // Replies that were repeated as new messages or came too late were handled, and had no effect.
    let repeated = rows.iter().filter(|row| {
        let fault = row.cell.fault;
        fault == Fault::RepliesTwice || fault == Fault::RepliesLate
    });
    let ignored = ignored(&system).await;
    assert!(
        ignored >= repeated.count(),
        "only {ignored} replies were ignored"
    );
    eventually(
        "no saga is stuck any more, and a metric says so",
        || async {
            let metrics = system.metrics("orchestrator").await;
            let is_over = metrics.contains("sagas_stuck{service=\"orchestrator\"} 0");
            if is_over { Ok(()) } else { Err(metrics) }
        },
    )
    .await;
    system.end_with_deadlines().await;
}

/// Returns the number of replies that had no effect.
async fn ignored(system: &System) -> usize {
    let metrics = system.metrics("orchestrator").await;
    let name = "saga_replies_ignored_total{service=\"orchestrator\"} ";
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let value = values.next().unwrap_or_else(|| panic!("{metrics}"));
    value.parse().expect("a number")
}

/// Polls the phases of all sagas, every 200 ms.
async fn look(system: &System, found: &watch::Sender<Phases>) {
    loop {
        let path = "/operator/sagas?limit=200";
        let page = answer(system.as_operator("orchestrator", Method::GET, path)).await;
        let page = page.expect(200);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let sagas = page["sagas"].as_array().expect("a list").iter();
        let phases = sagas.map(|saga| (text(&saga["id"]), text(&saga["phase"])));
        found.send_replace(Arc::new(phases.collect()));
        holdfast::backoff::pause(Duration::from_millis(200)).await;
    }
}

impl Crowd<'_> {
    /// Tries one cell.
    async fn one(self, row: &Row) {
        let cell = row.cell;
        let (customer, sku) = match (cell.step, cell.fault) {
            ("charge_payment", Fault::Fails)
            | ("create_order" | "tell_customer", Fault::UndoFailsOnce | Fault::UndoFailsAlways) => {
                (POOR, IN_STOCK)
            }
            ("reserve_inventory", Fault::Fails)
            | ("charge_payment", Fault::UndoFailsOnce | Fault::UndoFailsAlways) => {
                (RICH, OUT_OF_STOCK)
            }
            _ => (RICH, IN_STOCK),
        };
        let order = self.system.place_this(customer, &order_of(sku)).await;
        let one = One {
            order,
            customer,
            saga: saga_named(cell.saga),
            cell,
            crowd: self,
        };
        one.suffers().await;
        let told = one.ends(one.saga).await;
        let system = one.crowd.system;
        let order = system
            .wait_for(order, |order| order["at_rest"] == true)
            .await;
        row.check(&told, &order);
    }
}
