//! Single orders that walk through all steps of both sagas, while at each step a process fails or aborts.

use chassis::events::{COMMANDS, REPLIES};
use contracts::{order::Saga, value::OrderId};
use orchestrator::domain::{definition, saga_id};
use testkit::{Interposer, Passage::Hold, eventually};

use super::{
    BINDINGS,
    cell::{Cell, Fault, Ran, asked_of, key, start_key},
    order_of, table, told,
};
use crate::system::System;

const SAGAS: [Saga; 2] = [Saga::PlaceOrder, Saga::UndoOrder];

/// The failpoints by which every participant fails twice at each command from the pivot on, if an order walks alone.
const FAILING: &str = "order.handle=2*return->1*off->2*return->1*off->2*return->off;\
                       inventory.handle=1*off->2*return->1*off->2*return->off;\
                       payment.cancel=2*return->off;\
                       notification.handle=2*return->1*off->2*return->off";

/// The number of these failures, by service.
const FAILURES: [(&str, usize); 4] = [
    ("order", 6),
    ("inventory", 4),
    ("payment", 2),
    ("notification", 4),
];

/// The failpoints at which the orchestrator aborts, and how often a revived one passes its failpoint before the next
/// step: within a saga, and from the end of one saga to the beginning of the next.
const ABORTS: [(Fault, &str, u32, u32); 4] = [
    // The message at which it died is delivered again; the last reply leads to no step.
    (Fault::AbortsBeforeCommit, "consumer.before_commit", 1, 2),
    (Fault::AbortsAfterCommit, "consumer.after_commit", 1, 2),
    // The outbox row at which it died is still there.
    (Fault::AbortsBeforePublish, "outbox.before_publish", 1, 1),
    (Fault::AbortsAfterPublish, "outbox.after_publish", 1, 1),
];

/// Walks once for every fault.
pub(super) async fn run(ran: &Ran) {
    // Without sweeps, the passes of a failpoint can be counted.
    let settings = [("FAILPOINTS", FAILING), ("SWEEP_AFTER_MS", "600000")];
    let system = System::start_with(&settings).await;
    let between = Interposer::attach(&system.vhost, &BINDINGS).await;
    fails(&system, &between, ran).await;
    for (fault, point, within, across) in ABORTS {
        let walk = Walk {
            system: &system,
            between: &between,
            ran,
            fault,
            point,
            within,
            across,
        };
        walk.walk().await;
    }
    system.end().await;
}

/// Walks through both sagas while every participant fails twice at each command, and then handles it.
async fn fails(system: &System, between: &Interposer, ran: &Ran) {
    let order = system.place_this("alice", &order_of("TEA-ASSAM")).await;
    between.admit(order).await;
    ended(system, order, Saga::PlaceOrder).await;
    system.cancel("alice", order).await;
    ended(system, order, Saga::UndoOrder).await;
    for (service, times) in FAILURES {
        let log = system.whole_log(service);
        let failed = log.matches("will be tried again").count();
        assert_eq!(failed, times, "{service}: {log}");
    }
    for saga in SAGAS {
        let steps = definition(saga).steps;
        let pivot = steps.iter().position(|step| step.pivot).expect("a pivot");
        // The pivot itself can be refused, which is another cell and a worse fault.
        let later = steps[pivot + 1..].iter();
        for step in later.filter(|step| step.action.is_some()) {
            ran.add(Cell {
                saga: definition(saga).name,
                step: step.name,
                fault: Fault::Fails,
            });
        }
    }
}

/// Waits until an order's saga has ended as if nothing had happened, with every command sent once.
async fn ended(system: &System, order: OrderId, saga: Saga) {
    let wanted: Vec<&str> = table::usual(saga).iter().map(|(_, said)| *said).collect();
    let told = eventually("the saga ends", || async {
        let told = told::ask(system, order, saga).await;
        if told.phase == "completed" {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await;
    assert_eq!(told.log, wanted);
    assert_eq!(told.marks, "d".repeat(definition(saga).steps.len()));
    assert!(told.asked.values().all(|times| *times == 1), "{told:?}");
    let (state, reason) = match saga {
        Saga::PlaceOrder => ("confirmed", None),
        Saga::UndoOrder => ("cancelled", Some("customer")),
    };
    let order = system.api.order(order).await.expect("order answers");
    assert_eq!(
        (order["state"].as_str(), order["reason"].as_str()),
        (Some(state), reason),
        "{order}"
    );
    assert_eq!(order["at_rest"], true, "{order}");
}

/// A walk on which the orchestrator aborts at every step of an order.
struct Walk<'a> {
    system: &'a System,
    between: &'a Interposer,
    ran: &'a Ran,
    fault: Fault,
    point: &'static str,
    within: u32,
    across: u32,
}

/// The log entries and outbox rows that the orchestrator has committed, and whether a step's command was published.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    entries: i64,
    rows: i64,
    published: bool,
}

impl Walk<'_> {
    async fn walk(&self) {
        let Self {
            system, between, ..
        } = self;
        system.stop("orchestrator").await;
        self.revive(Some(0));
        system.ready("orchestrator").await;
        let order = system.place_this("alice", &order_of("TEA-ASSAM")).await;
        for saga in SAGAS {
            between.rule(COMMANDS, &start_key(order, saga), &[], Hold);
            for step in asked_of(saga) {
                between.rule(REPLIES, &key(order, saga, step.name, "do"), &[], Hold);
            }
        }
        between.admit(order).await;
        self.through(order, Saga::PlaceOrder, Some(self.across))
            .await;
        system.cancel("alice", order).await;
        self.through(order, Saga::UndoOrder, None).await;
    }

    /// Walks through a saga. `after` is how often the last process passes the failpoint before it aborts; `None`: it
    /// does not.
    async fn through(&self, order: OrderId, saga: Saga, after: Option<u32>) {
        let Self {
            system,
            between,
            ran,
            fault,
            point,
            ..
        } = *self;
        let steps: Vec<&'static str> = asked_of(saga).map(|step| step.name).collect();
        let (mut exchange, mut leads_to_it) = (COMMANDS, start_key(order, saga));
        for (place, step) in steps.iter().enumerate() {
            between.wait_held(exchange, &leads_to_it).await;
            self.is_calm(place > 0).await;
            between.release(exchange, &leads_to_it).await;
            system.aborted("orchestrator", point).await;
            self.has_left(order, saga, step, place).await;
            ran.add(Cell {
                saga: definition(saga).name,
                step,
                fault,
            });
            let is_last = place + 1 == steps.len();
            self.revive(if is_last { after } else { Some(self.within) });
            (exchange, leads_to_it) = (REPLIES, key(order, saga, step, "do"));
        }
        between.wait_held(exchange, &leads_to_it).await;
        self.is_calm(true).await;
        between.release(exchange, &leads_to_it).await;
        system.ready("orchestrator").await;
        ended(system, order, saga).await;
    }

    /// Starts the orchestrator. It aborts after it has passed the failpoint `times` times; `None`: never.
    fn revive(&self, times: Option<u32>) {
        let point = match times {
            None => format!("{}=off", self.point),
            Some(0) => format!("{}=return(abort)", self.point),
            Some(times) => format!("{}={times}*off->return(abort)", self.point),
        };
        self.system
            .revive("orchestrator", &[("FAILPOINTS", &point)]);
    }

    /// Waits until only the message that is released next will pass the failpoint: published rows are deleted, and the
    /// message at which an orchestrator died after its commit has been delivered `again`.
    async fn is_calm(&self, again: bool) {
        let pool = self.system.databases["orchestrator"].pool();
        eventually("nothing moves", || async {
            let rows: i64 = sqlx::query_scalar("select count(*) from outbox")
                .fetch_one(&pool)
                .await
                .expect("the database answers");
            if rows > 0 {
                return Err(format!("{rows} rows in the outbox"));
            }
            if self.fault != Fault::AbortsAfterCommit || !again {
                return Ok(());
            }
            let metrics = self.system.metrics("orchestrator").await;
            let is_repeated = |line: &str| {
                line.starts_with("messages_total{")
                    && line.contains("outcome=\"repeated\"")
                    && !line.ends_with(" 0")
            };
            if metrics.lines().any(is_repeated) {
                Ok(())
            } else {
                Err(metrics)
            }
        })
        .await;
    }

    /// Checks that the orchestrator died where it should have, by what is committed, in the outbox and published.
    async fn has_left(&self, order: OrderId, saga: Saga, step: &str, place: usize) {
        let before = i64::try_from(place).expect("small");
        let (entries, rows, published) = match self.fault {
            Fault::AbortsBeforeCommit => (before, 0, false),
            Fault::AbortsAfterCommit | Fault::AbortsBeforePublish => (before + 1, 1, false),
            _ => (before + 1, 1, true),
        };
        let wanted = Written {
            entries,
            rows,
            published,
        };
        let what = format!("{step} with {} leaves {wanted:?}", self.point);
        eventually(&what, || async {
            let written = self.written(order, saga, step).await;
            if written == wanted {
                Ok(())
            } else {
                Err(format!("{written:?}"))
            }
        })
        .await;
    }

    async fn written(&self, order: OrderId, saga: Saga, step: &str) -> Written {
        let pool = self.system.databases["orchestrator"].pool();
        let count = async |sql: &'static str| -> i64 {
            let query = sqlx::query_scalar(sql).bind(saga_id(order, saga));
            query.fetch_one(&pool).await.expect("the database answers")
        };
        let command = key(order, saga, step, "do");
        let sent = self.system.probe.seen_on(COMMANDS, order);
        Written {
            entries: count("select count(*) from saga_log where saga_id = $1").await,
            rows: count("select count(*) from outbox where $1 is not null").await,
            published: sent.iter().any(|seen| seen.key() == Some(&command)),
        }
    }
}
