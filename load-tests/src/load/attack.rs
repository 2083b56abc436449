//! Goose's users, who take the orders from the schedule.
//!
//! Goose by itself is a closed loop: a user sends the next request when the last one is answered, so that a slow
//! response means less load. Here a user is not a customer but a pair of hands: it takes the next ticket of its
//! scenario at the moment at which the schedule hands it out, and serves it. As long as one user is free the loop is
//! open; when none is, tickets wait, are counted as late starts, and their latency goes on from the intended moment.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use chassis::identity::Role;
use contracts::value::OrderId;
use goose::{config::GooseConfiguration, goose::GooseUser, prelude::*};
use serde_json::{Value, json};
use tokio::sync::{
    Mutex, Notify,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};
use uuid::Uuid;

use super::{
    board::{Board, Seen},
    report::Requests,
    schedule::{Arrival, Scenario as Wants, Ticket},
};
use crate::{
    api::{Api, ServiceUrls},
    traffic::{Cancel, Coordination, Ending, Ways},
};

/// The longest time for a request. The services answer sooner, if only with 503.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of customers, each with a wallet: the row of a wallet is locked for each charge.
pub const CUSTOMERS: usize = 200;
/// The product that every customer of [`Wants::HotProduct`] orders.
const HOT: &str = "TEA-EARL-GREY";

/// The state that all users share.
pub struct Crowd {
    board: Arc<Board>,
    urls: ServiceUrls,
    tokens: BTreeMap<String, String>,
    skus: Vec<String>,
    ways: Ways,
    http: reqwest::Client,
    queues: BTreeMap<Wants, Mutex<UnboundedReceiver<Ticket>>>,
    size: usize,
    there: AtomicUsize,
    complete: Notify,
}

/// The senders of tickets: one queue for each scenario.
pub type Desks = BTreeMap<Wants, UnboundedSender<Ticket>>;

/// Returns the name of a customer.
pub fn customer(index: usize) -> String {
    format!("load-{index:03}")
}

/// The customer whose wallet holds too little.
pub const POOR: &str = "load-poor";

impl Crowd {
    /// Creates a crowd of `size` users, and the desks where their tickets are put. `skus` is what can be bought, `ways`
    /// are the ways that orders take.
    pub fn new(
        api: &Api,
        board: &Arc<Board>,
        skus: Vec<String>,
        ways: Ways,
        size: usize,
    ) -> anyhow::Result<(Arc<Self>, Desks)> {
        let mut tokens = BTreeMap::new();
        for name in (0..CUSTOMERS).map(customer).chain([POOR.to_owned()]) {
            let token = api.token(&name, Role::Customer)?;
            tokens.insert(name, token);
        }
        let (mut desks, mut queues) = (Desks::new(), BTreeMap::new());
        for wants in Wants::ALL {
            let (sender, receiver) = unbounded_channel();
            desks.insert(wants, sender);
            queues.insert(wants, Mutex::new(receiver));
        }
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(REQUEST_TIMEOUT)
            // Less than the services' own timeout: a request must not meet a connection that is being closed.
            .pool_idle_timeout(Duration::from_secs(3))
            .build()?;
        let crowd = Self {
            board: Arc::clone(board),
            urls: api.urls().clone(),
            tokens,
            skus,
            ways,
            http,
            queues,
            size,
            there: AtomicUsize::new(0),
            complete: Notify::new(),
        };
        Ok((Arc::new(crowd), desks))
    }

    /// Waits until all users have started.
    pub async fn complete(&self) {
        self.complete.notified().await;
    }

    /// Runs goose until all desks are dropped and their tickets served; returns its statistics.
    pub async fn run(self: Arc<Self>) -> anyhow::Result<Vec<Requests>> {
        let configuration = GooseConfiguration::parse_args_default::<&str>(&[])
            .map_err(|error| anyhow::anyhow!("goose: {error}"))?;
        let mut attack = *GooseAttack::initialize_with_config(configuration)?
            .set_default(GooseDefault::Host, self.urls.order_url.as_str())?
            .set_default(GooseDefault::Users, self.size)?
            .set_default(GooseDefault::IncreaseRate, "500")?
            // One iteration serves all tickets that a user ever takes.
            .set_default(GooseDefault::Iterations, 1)?
            .set_default(GooseDefault::NoTransactionMetrics, true)?
            .set_default(GooseDefault::NoScenarioMetrics, true)?
            .set_default(GooseDefault::NoPrintMetrics, true)?
            .set_default(GooseDefault::NoTelnet, true)?
            .set_default(GooseDefault::Quiet, 2)?;
        for wants in Wants::ALL {
            let crowd = Arc::clone(&self);
            let serve: TransactionFunction = Arc::new(move |user| {
                let crowd = Arc::clone(&crowd);
                Box::pin(async move {
                    crowd.serve(wants, user).await;
                    Ok(())
                })
            });
            let scenario = Scenario::new(wants.name())
                .set_weight(usize::from(wants.weight()))?
                .register_transaction(Transaction::new(serve).set_name(wants.name()));
            attack = attack.register_scenario(scenario);
        }
        let metrics = Box::pin(attack.execute()).await.context("goose")?;
        let mut requests: Vec<Requests> = metrics
            .requests
            .into_values()
            .map(|measured| {
                #[expect(clippy::cast_precision_loss, reason = "microseconds")]
                let at = |share: f32| measured.raw_data.percentile_us(share) as f64 / 1000.0;
                Requests {
                    name: format!("{} {}", measured.method_label(), measured.path),
                    count: measured.success_count + measured.fail_count,
                    failed: measured.fail_count,
                    statuses: measured
                        .status_code_counts
                        .iter()
                        .map(|(status, count)| (*status, *count))
                        .collect(),
                    p50_ms: at(0.5),
                    p99_ms: at(0.99),
                }
            })
            .collect();
        requests.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(requests)
    }

    /// Runs as one user: takes tickets until the queue is closed.
    async fn serve(&self, wants: Wants, user: &mut GooseUser) {
        // One client for all, so that many customers come through few connections, as through a front door.
        user.client = self.http.clone();
        if self.there.fetch_add(1, Ordering::Relaxed) + 1 == self.size {
            self.complete.notify_one();
        }
        let Some(queue) = self.queues.get(&wants) else {
            return;
        };
        loop {
            let ticket = queue.lock().await.recv().await;
            match ticket {
                None => return,
                Some(Ticket::Arrival(arrival)) => {
                    self.board.started(arrival, self.board.now());
                    if let Err(kind) = self.arrive(arrival, user).await {
                        self.board.failed(arrival, self.board.now(), kind);
                    }
                }
                Some(Ticket::Cancel { id, customer, .. }) => self.cancel(user, &customer, id).await,
            }
        }
    }

    /// Browses if the scenario says so, places an order, and cancels it if that is to happen at once.
    async fn arrive(&self, arrival: Arrival, user: &mut GooseUser) -> Result<(), String> {
        let plan = Plan::new(arrival.scenario, &self.skus, self.ways.draw());
        let token = self.tokens.get(&plan.customer).map_or("", String::as_str);
        if arrival.scenario == Wants::BrowseAndOrder {
            let products = format!("{}/products", self.urls.inventory_url);
            let list = user.client.get(format!("{products}?limit=50"));
            ask(user, GooseMethod::Get, "/products", list.bearer_auth(token)).await?;
            let one = user.client.get(format!("{products}/{}", plan.skus[0]));
            ask(
                user,
                GooseMethod::Get,
                "/products/{sku}",
                one.bearer_auth(token),
            )
            .await?;
        }
        let request = user
            .client
            .post(format!("{}/orders", self.urls.order_url))
            .bearer_auth(token)
            .header("Idempotency-Key", Uuid::now_v7().to_string())
            .json(&plan.body);
        let sent = self.board.now();
        let answer = ask(user, GooseMethod::Post, "/orders", request).await?;
        let answered = self.board.now();
        let seen: Seen =
            serde_json::from_str(&answer).map_err(|error| format!("not an order: {error}"))?;
        let (ending, id) = (plan.ending, seen.id);
        self.board
            .accepted(
                arrival,
                (sent, answered),
                ending,
                plan.customer.clone(),
                &seen,
            )
            .map_err(|error| format!("the journal: {error}"))?;
        if ending.cancel() == Cancel::AtOnce {
            self.cancel(user, &plan.customer, id).await;
        }
        Ok(())
    }

    async fn cancel(&self, user: &mut GooseUser, customer: &str, id: OrderId) {
        let token = self.tokens.get(customer).map_or("", String::as_str);
        let url = format!("{}/orders/{id}/cancel", self.urls.order_url);
        let request = user.client.post(url).bearer_auth(token);
        if let Err(kind) = ask(user, GooseMethod::Post, "/orders/{id}/cancel", request).await {
            self.board.cancel_failed(id, kind);
        }
    }
}

/// Sends a request through goose, which measures it. Returns the body, or the kind of error.
async fn ask(
    user: &mut GooseUser,
    method: GooseMethod,
    name: &str,
    request: reqwest::RequestBuilder,
) -> Result<String, String> {
    let request = GooseRequest::builder()
        .method(method)
        .name(name)
        .set_request_builder(request)
        .build();
    let answer = user
        .request(request)
        .await
        .map_err(|error| format!("goose: {error}"))?;
    let kind = |error: reqwest::Error| {
        let kind = if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "cannot connect"
        } else {
            "the connection broke"
        };
        format!("{name}: {kind}")
    };
    let response = answer.response.map_err(kind)?;
    let status = response.status();
    let body = response.text().await.map_err(kind)?;
    if status.is_success() {
        Ok(body)
    } else {
        Err(format!("{name}: {status}"))
    }
}

/// An order that is to be placed, and its expected end.
struct Plan {
    ending: Ending,
    customer: String,
    skus: Vec<String>,
    body: Value,
}

impl Plan {
    fn new(wants: Wants, catalogue: &[String], way: Coordination) -> Self {
        let often = fastrand::u8(..10);
        let ending = match wants {
            Wants::BrowseAndOrder if often < 7 => Ending::ConfirmedWallet,
            Wants::BrowseAndOrder => Ending::ConfirmedCard,
            Wants::Decline if often < 5 => Ending::DeclinedCard,
            Wants::Decline => Ending::DeclinedWallet,
            Wants::StockOut => Ending::OutOfStock,
            Wants::Cancel if often < 5 => Ending::CancelledBefore,
            Wants::Cancel => Ending::CancelledAfter,
            Wants::HotProduct => Ending::ConfirmedWallet,
        };
        let any = |list: &[String]| list[fastrand::usize(..list.len())].clone();
        let mut skus = match wants {
            Wants::StockOut => vec!["SAMOVAR".to_owned()],
            Wants::HotProduct => vec![HOT.to_owned()],
            _ => vec![any(catalogue), any(catalogue)],
        };
        skus.dedup();
        let lines: Vec<Value> = skus
            .iter()
            .map(|sku| json!({ "sku": sku, "quantity": fastrand::u32(1..=2) }))
            .collect();
        let payment = match ending {
            // Any card: whether the charge or the cancel comes first is left open here.
            Ending::ConfirmedCard | Ending::CancelledBefore => {
                json!({ "method": "card", "token": "tok_visa" })
            }
            Ending::DeclinedCard => json!({ "method": "card", "token": "tok_declined" }),
            _ => json!({ "method": "wallet" }),
        };
        Self {
            ending,
            customer: match ending {
                Ending::DeclinedWallet => POOR.to_owned(),
                _ => customer(fastrand::usize(..CUSTOMERS)),
            },
            body: json!({ "coordination": way.name(), "lines": lines, "payment": payment }),
            skus,
        }
    }
}
