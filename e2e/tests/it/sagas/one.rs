//! One order of the crowd.

use chassis::events::{COMMANDS, REPLIES};
use contracts::{order::Saga, value::OrderId};
use orchestrator::domain::{definition, saga_id};
use testkit::{Interposer, PATIENCE, Passage, eventually};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    cell::{Cell, key},
    crowd::Crowd,
    told::{self, Told},
};

/// An order's saga, and the step of it that the cell is about.
pub(super) struct One<'a> {
    pub(super) crowd: Crowd<'a>,
    pub(super) order: OrderId,
    pub(super) customer: &'static str,
    pub(super) saga: Saga,
    pub(super) cell: Cell,
}

/// The messages of one exchange with one idempotency key.
pub(super) struct Lane<'a> {
    between: &'a Interposer,
    exchange: &'static str,
    pub(super) key: String,
}

impl<'a> One<'a> {
    pub(super) fn lane(&self, exchange: &'static str, key: String) -> Lane<'a> {
        Lane {
            between: self.crowd.between,
            exchange,
            key,
        }
    }

    /// Returns the lane of the commands to the step.
    pub(super) fn command(&self, asked: &str) -> Lane<'a> {
        self.lane(COMMANDS, key(self.order, self.saga, self.cell.step, asked))
    }

    /// Returns the lane of the step's replies.
    pub(super) fn reply(&self, asked: &str) -> Lane<'a> {
        self.lane(REPLIES, key(self.order, self.saga, self.cell.step, asked))
    }

    /// Returns whether the step is the pivot or after it, where a saga accepts no refusal and does not give up.
    pub(super) fn is_from_pivot_on(&self) -> bool {
        let steps = definition(self.saga).steps;
        let pivot = steps.iter().position(|step| step.pivot);
        steps.iter().position(|step| step.name == self.cell.step) >= pivot
    }

    /// Lets the order begin; all rules must have been set. `undo_order` begins with the customer's cancel, after
    /// `place_order`.
    pub(super) async fn begins(&self) {
        self.crowd.between.admit(self.order).await;
        if self.saga == Saga::UndoOrder {
            let told = self.ends(Saga::PlaceOrder).await;
            assert_eq!(told.phase, "completed", "{}", self.cell);
            self.cancel().await;
        }
    }

    pub(super) async fn cancel(&self) {
        self.crowd.system.cancel(self.customer, self.order).await;
    }

    /// Waits until the order's saga is in one of these phases, and returns the phase.
    pub(super) async fn comes_to(&self, saga: Saga, wanted: &[&str]) -> String {
        let id = saga_id(self.order, saga).to_string();
        let mut phases = self.crowd.phases.clone();
        let waited = timeout(PATIENCE, async {
            loop {
                let phase = phases.borrow_and_update().get(&id).cloned();
                if let Some(phase) = phase.filter(|phase| wanted.contains(&phase.as_str())) {
                    return phase;
                }
                phases.changed().await.expect("the phases are polled");
            }
        });
        if let Ok(phase) = waited.await {
            return phase;
        }
        let told = self.told(saga).await;
        panic!(
            "{}: not {wanted:?} within {PATIENCE:?}: {told:?}",
            self.cell
        )
    }

    /// Waits until the order's saga has ended, and returns an operator's view of it.
    pub(super) async fn ends(&self, saga: Saga) -> Told {
        self.comes_to(saga, &["completed", "compensated", "abandoned"])
            .await;
        self.told(saga).await
    }

    pub(super) async fn told(&self, saga: Saga) -> Told {
        told::ask(self.crowd.system, self.order, saga).await
    }

    /// Waits until the orchestrator has handled these messages.
    pub(super) async fn taken_in(&self, queue: &str, ids: &[Uuid]) {
        let pool = self.crowd.system.databases["orchestrator"].pool();
        eventually("the orchestrator handles them", || async {
            let taken: i64 = sqlx::query_scalar(
                "select count(*) from inbox where queue = $1 and message_id = any($2)",
            )
            .bind(queue)
            .bind(ids)
            .fetch_one(&pool)
            .await
            .expect("the database answers");
            if usize::try_from(taken) == Ok(ids.len()) {
                Ok(())
            } else {
                Err(format!("{taken} of {ids:?}"))
            }
        })
        .await;
    }

    /// Checks that replies after the saga's end change nothing. `late` lets them arrive, and returns their message ids.
    pub(super) async fn comes_too_late(&self, late: impl AsyncFnOnce() -> Vec<Uuid>) {
        let before = self.ends(self.saga).await;
        let ids = late().await;
        assert!(!ids.is_empty(), "{}: no reply is late", self.cell);
        self.taken_in("orchestrator.replies", &ids).await;
        assert_eq!(self.told(self.saga).await, before, "{}", self.cell);
    }
}

impl Lane<'_> {
    pub(super) fn rule(&self, first: &[Passage], then: Passage) {
        self.between.rule(self.exchange, &self.key, first, then);
    }

    pub(super) async fn held(&self) {
        self.between.wait_held(self.exchange, &self.key).await;
    }

    pub(super) async fn release(&self) -> Vec<Uuid> {
        self.between.release(self.exchange, &self.key).await
    }
}
