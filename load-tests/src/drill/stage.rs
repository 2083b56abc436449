//! The steps that all drills have in common: break and mend, switch a pattern off and on, observe, report, compare the
//! books.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use chassis::settings::with_password;
use contracts::value::OrderId;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::process::Process;
use crate::{
    api::{Api, insist},
    load::processes::{ELSE, Snapshot, Whose, snapshot, used},
    reconcile::{Sources, Wanted, reconcile},
};

/// A sink for the lines that a drill reports.
pub type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// The longest time for everything to come to rest after a drill.
const REST: Duration = Duration::from_secs(180);

/// The Redis that keeps the locks, for those drills that empty it.
#[derive(clap::Args, Clone, Default)]
#[command(next_help_heading = "Locks")]
pub struct LockServer {
    /// Redis, as a user that may empty it: redis://USER:PASSWORD@HOST:PORT
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// A file with the password, instead of the one in REDIS_URL
    #[arg(long, env = "REDIS_PASSWORD_FILE")]
    pub redis_password_file: Option<PathBuf>,
}

/// A running stack, and the report of one drill on it.
pub struct Stage {
    pub(super) api: Arc<Api>,
    sources: Sources,
    locks: LockServer,
    tell: Tell,
    begun: Instant,
    /// The stack whose processes payment's process is among.
    whose: Whose,
    /// The SKUs that can be bought, read by [`Stage::begin`].
    skus: Mutex<Vec<String>>,
    /// Accepted orders, each of which must exist and be at rest in the end.
    accepted: Mutex<HashSet<OrderId>>,
    /// Set when a measurement exceeds its limit.
    exceeded: AtomicBool,
}

/// A dependency of a service, and the switches before it: the service's name, and its name for the dependency.
#[derive(Clone, Copy)]
pub(super) struct Dependency {
    pub(super) service: &'static str,
    pub(super) name: &'static str,
}

/// The card processor, as payment calls it.
pub(super) const CARDS: Dependency = Dependency {
    service: "payment",
    name: "card-processor",
};
/// Inventory, as the order service asks it for prices.
pub(super) const PRICES: Dependency = Dependency {
    service: "order",
    name: "inventory",
};
pub(super) const MAILS: Dependency = Dependency {
    service: "notification",
    name: "smtp",
};

/// The card processor's latency when it is well, in milliseconds, from and to.
pub(super) const GOOD_CARDS: [u64; 2] = [20, 80];

impl Stage {
    /// Creates a stage for one drill. The stack must have one replica of each service, as a switch acts on the process
    /// that answers the request.
    pub fn new(api: Arc<Api>, sources: Sources, locks: LockServer, tell: Tell) -> Self {
        Self {
            api,
            sources,
            locks,
            tell,
            begun: Instant::now(),
            whose: Whose::find(),
            skus: Mutex::default(),
            accepted: Mutex::default(),
            exceeded: AtomicBool::new(false),
        }
    }

    /// Reports a text line by line, each with the seconds since the stage was created.
    pub(super) fn say(&self, what: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        for line in what.lines() {
            (self.tell)(&format!("[{at:6.1} s] {line}"));
        }
    }

    /// Mends what an earlier drill left broken, checks that each service has one process, and reads what can be bought.
    pub(super) async fn begin(&self) -> anyhow::Result<()> {
        self.mend().await?;
        self.has_one_of_each().await?;
        let skus = insist(|| self.api.skus()).await?;
        anyhow::ensure!(
            !skus.is_empty(),
            "there is nothing to buy: run `traffic seed` first"
        );
        *self.skus.lock().unwrap_or_else(PoisonError::into_inner) = skus;
        Ok(())
    }

    /// Returns the SKUs that can be bought.
    pub(super) fn skus(&self) -> Vec<String> {
        self.skus
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the sources of all books.
    pub(super) fn books(&self) -> &Sources {
        &self.sources
    }

    /// Returns the stack whose processes are looked at.
    pub(super) fn whose(&self) -> &Whose {
        &self.whose
    }

    /// Connects to the Redis that keeps the locks.
    pub(super) async fn redis(&self) -> anyhow::Result<MultiplexedConnection> {
        let LockServer {
            redis_url,
            redis_password_file,
        } = &self.locks;
        let url = redis_url
            .as_deref()
            .context("this drill empties Redis: set REDIS_URL")?;
        let url = with_password(url, redis_password_file.as_deref())?;
        let client = redis::Client::open(url).context("REDIS_URL")?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// Notes an accepted order for [`Stage::reconcile`].
    pub(super) fn accepted(&self, id: OrderId) {
        self.accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }

    /// Reports a limit that was exceeded. The drill goes on, and has failed.
    pub(super) fn exceeded(&self, what: &str) {
        self.exceeded.store(true, Ordering::Relaxed);
        self.say(&format!("LIMIT EXCEEDED: {what}"));
    }

    /// Returns whether no limit was exceeded.
    pub(super) fn is_within_limits(&self) -> bool {
        !self.exceeded.load(Ordering::Relaxed)
    }

    /// Ends every fault, and switches every pattern on. One part that cannot be mended does not keep the others from
    /// it; the first error is returned.
    pub async fn mend(&self) -> anyhow::Result<()> {
        Process::mend(&self.whose, CARDS.service);
        if let Some(server) = Process::mail_server(&self.whose) {
            server.go_on();
        }
        let payment = &self.api.urls().payment_url;
        let (cards, prices, mails) = (
            json!({ "breaker": "automatic", "bulkhead": "on", "cut_off": "off" }),
            json!({ "breaker": "automatic", "bulkhead": "on", "retry_budget": "on", "fallback": "on" }),
            json!({ "breaker": "automatic", "bulkhead": "on", "cut_off": "off" }),
        );
        let mended = tokio::join!(
            self.cards(GOOD_CARDS, 0.0),
            self.faults("inventory", 0, false),
            self.switch(CARDS, &cards),
            self.switch(PRICES, &prices),
            self.switch(MAILS, &mails),
            self.fencing(payment, true),
            self.hold_answers(false),
        );
        mended
            .0
            .and(mended.1)
            .and(mended.2)
            .and(mended.3)
            .and(mended.4)
            .and(mended.5)
            .and(mended.6)
    }

    /// Fails if a service has more than one process: a switch acts on the process that answers, which would be any of
    /// them.
    async fn has_one_of_each(&self) -> anyhow::Result<()> {
        for service in [PRICES.service, CARDS.service, MAILS.service] {
            // At once, each on a connection of its own, so that another process would answer some of them.
            let asked = (0..8).map(|_| insist(|| self.api.get::<Value>(service, "/demo")));
            let answers = try_join_all(asked).await?;
            let processes: HashSet<&str> = answers
                .iter()
                .filter_map(|demo| demo["process"].as_str())
                .collect();
            anyhow::ensure!(
                processes.len() == 1,
                "drills need one process of each service, and {} of {service} answer",
                processes.len()
            );
        }
        Ok(())
    }

    /// Sets the card processor's latency, from and to in milliseconds, and the share of requests that then fail, from 0
    /// to 1.
    pub(super) async fn cards(&self, latency_ms: [u64; 2], fail: f64) -> anyhow::Result<()> {
        let knobs = json!({
            "latency_min_ms": latency_ms[0], "latency_max_ms": latency_ms[1],
            "fail_before": fail, "fail_after": 0.0, "decline": 0.0,
        });
        let _: Value = insist(|| self.api.put("card-processor", "/knobs", &knobs)).await?;
        Ok(())
    }

    /// Adds latency to a service, or makes it answer 500 to everything.
    pub(super) async fn faults(
        &self,
        service: &str,
        latency_ms: u64,
        unavailable: bool,
    ) -> anyhow::Result<()> {
        let fault = json!({ "latency_ms": latency_ms, "unavailable": unavailable });
        let _: Value = insist(|| self.api.put(service, "/demo/faults", &fault)).await?;
        Ok(())
    }

    /// Sets the switches before a dependency.
    pub(super) async fn switch(
        &self,
        Dependency { service, name }: Dependency,
        switches: &Value,
    ) -> anyhow::Result<()> {
        let path = format!("/operator/dependencies/{name}");
        let _: Value = insist(|| self.api.post(service, &path, switches)).await?;
        Ok(())
    }

    /// Returns a service's view of a dependency: the states and counters of breaker and bulkhead.
    pub(super) async fn look(
        &self,
        Dependency { service, name }: Dependency,
    ) -> anyhow::Result<Value> {
        let all: Vec<Value> = insist(|| self.api.get(service, "/operator/dependencies")).await?;
        all.into_iter()
            .find(|dependency| dependency["name"] == name)
            .ok_or_else(|| anyhow::anyhow!("{service} knows no dependency {name}"))
    }

    /// Returns the number of calls made to a dependency since the service's process began.
    pub(super) async fn calls(&self, dependency: Dependency) -> anyhow::Result<u64> {
        let made = ["succeeded", "slow", "failed", "ignored", "cancelled"];
        self.calls_that(&made, dependency).await
    }

    /// Returns the number of those calls that failed or were cancelled.
    pub(super) async fn calls_in_vain(&self, dependency: Dependency) -> anyhow::Result<u64> {
        self.calls_that(&["failed", "cancelled"], dependency).await
    }

    async fn calls_that(&self, ended: &[&str], dependency: Dependency) -> anyhow::Result<u64> {
        let breaker = &self.look(dependency).await?["breaker"];
        let counted = ended.iter().filter_map(|so| breaker[so].as_u64());
        Ok(counted.sum())
    }

    /// Waits until all mails are sent, and returns the time that it took.
    pub(super) async fn mails_are_sent(&self) -> anyhow::Result<Duration> {
        let (begun, url) = (Instant::now(), &self.api.urls().notification_url);
        while insist(|| self.api.metric(url, "mails_queued")).await? > 0.0 {
            anyhow::ensure!(begun.elapsed() < REST, "mails still wait to be sent");
            holdfast::backoff::pause(Duration::from_millis(200)).await;
        }
        Ok(begun.elapsed())
    }

    /// Returns the processor time that each part of the stack has used until now, and the time of the reading.
    pub(super) fn processor(&self) -> (Instant, Snapshot) {
        (Instant::now(), snapshot(&self.whose))
    }

    /// Returns the share of one processor that payment has used since then, for a table.
    pub(super) fn spent(&self, (since, before): &(Instant, Snapshot)) -> String {
        let now = snapshot(&self.whose);
        let used = |parts: &Snapshot| parts.get(CARDS.service).map(|usage| usage.cpu_ms);
        let (Some(before), Some(after)) = (used(before), used(&now)) else {
            return "unknown".to_owned();
        };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
        let share = after.saturating_sub(before) as f64 / since.elapsed().as_secs_f64() / 10.0;
        format!("{share:.1} %")
    }

    /// Returns the number of cores that programs other than the stack and this drill have kept busy since then. On a
    /// machine that others use, measurements say little of the stack.
    pub(super) fn others_used(&self, (since, before): &(Instant, Snapshot)) -> f64 {
        let used = used(before, &snapshot(&self.whose));
        used.get(ELSE).copied().unwrap_or(0.0) / 1000.0 / since.elapsed().as_secs_f64()
    }

    /// Waits until everything is at rest, and compares the books. Returns true if they agree.
    pub(super) async fn reconcile(&self) -> anyhow::Result<bool> {
        let accepted = self
            .accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let wanted = Wanted {
            accepted,
            none_by_deadline: true,
        };
        let report = reconcile(&self.sources, REST, &wanted).await?;
        self.say(&report.to_string());
        Ok(report.is_clean())
    }
}
