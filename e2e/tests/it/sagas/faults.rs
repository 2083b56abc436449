//! The faults of the crowd's orders: each lets its order begin, and does what the cell needs until the order ends.

use chassis::events::COMMANDS;
use contracts::order::Saga;
use orchestrator::domain::{definition, saga_id};
use reqwest::Method;
use serde_json::json;
use testkit::{
    Passage::{Drop, Forward, Hold, Repeat},
    answer, eventually,
};

use super::{
    cell::{Fault, key, start_key},
    one::One,
    table, told,
};

impl One<'_> {
    /// Lets the order begin, with the fault of its cell.
    pub(super) async fn suffers(&self) {
        match self.cell.fault {
            Fault::Fails if self.cell.step == "confirm_order" => self.is_refused_to_confirm().await,
            // The refusal follows from the goods and the customer.
            Fault::Fails => self.begins().await,
            Fault::TimesOut => self.times_out().await,
            Fault::RepliesTwice => {
                self.reply("do").rule(&[], Repeat);
                self.begins().await;
            }
            Fault::RepliesLate => self.replies_late().await,
            Fault::Cancelled => self.is_cancelled().await,
            Fault::UndoFailsOnce => self.undo_fails_once().await,
            Fault::UndoFailsAlways => self.undo_fails_always().await,
            Fault::UndoOfUnknown => self.undo_of_unknown().await,
            Fault::AbortsBeforeCommit
            | Fault::AbortsAfterCommit
            | Fault::AbortsBeforePublish
            | Fault::AbortsAfterPublish => panic!("{} is not a cell of the crowd", self.cell),
        }
    }

    /// Makes the order refuse its confirmation. Only the order's row can refuse the pivot: here an operator cancels it
    /// first.
    async fn is_refused_to_confirm(&self) {
        let confirm = self.command("do");
        confirm.rule(&[], Hold);
        self.begins().await;
        confirm.held().await;
        let path = format!("/operator/orders/{}/cancel", self.order);
        let cancel = self.crowd.system.as_operator("order", Method::POST, &path);
        answer(cancel.json(&json!({ "note": "by telephone" })))
            .await
            .expect(202);
        confirm.release().await;
    }

    async fn times_out(&self) {
        if self.is_from_pivot_on() {
            self.command("do").rule(&[Drop, Drop, Drop], Forward);
        } else {
            self.command("do").rule(&[], Drop);
        }
        self.begins().await;
    }

    async fn replies_late(&self) {
        let reply = self.reply("do");
        if self.is_from_pivot_on() {
            // There is no compensation to be late for. A later reply is faster.
            reply.rule(&[Hold], Forward);
            self.begins().await;
            self.comes_too_late(async || reply.release().await).await;
            return;
        }
        let undo = self.command("undo");
        reply.rule(&[], Hold);
        undo.rule(&[], Hold);
        self.begins().await;
        undo.held().await;
        let before = self.told(self.saga).await;
        assert_eq!(before.phase, "compensating", "{}", self.cell);
        let late = reply.release().await;
        self.taken_in("orchestrator.replies", &late).await;
        assert_eq!(self.told(self.saga).await.log, before.log, "{}", self.cell);
        undo.release().await;
    }

    async fn is_cancelled(&self) {
        let command = self.command("do");
        command.rule(&[], Hold);
        if self.saga == Saga::UndoOrder {
            self.begins().await;
            command.held().await;
            self.cancel().await; // once more
        } else if !self.is_from_pivot_on() {
            let undo = self.command("undo");
            undo.rule(&[], Hold);
            self.begins().await;
            command.held().await;
            self.cancel().await;
            undo.held().await;
            // The step is done all the same, and undone after that.
            command.release().await;
            let done = self.crowd.system.probe.wait_for_reply(&command.key).await;
            self.taken_in("orchestrator.replies", &[done.id]).await;
            undo.release().await;
        } else {
            self.begins().await;
            command.held().await;
            self.cancel().await;
            if self.cell.step != "confirm_order" {
                // The order was confirmed: another saga undoes it, while this one waits for its reply.
                let undoing = self.ends(Saga::UndoOrder).await;
                let usual = table::usual(Saga::UndoOrder).iter();
                let usual: Vec<&str> = usual.map(|(_, said)| *said).collect();
                assert_eq!(undoing.log, usual, "{}", self.cell);
            }
        }
        command.release().await;
    }

    /// Makes the saga compensate, with the compensation of the cell first.
    async fn turns_around(&self) {
        let confirm = self.lane(COMMANDS, key(self.order, self.saga, "confirm_order", "do"));
        if self.cell.step == "reserve_inventory" {
            confirm.rule(&[], Hold);
        }
        self.begins().await;
        if self.cell.step == "reserve_inventory" {
            confirm.held().await;
            self.cancel().await;
            confirm.release().await;
        }
    }

    async fn undo_fails_once(&self) {
        self.command("undo").rule(&[Drop], Forward);
        self.turns_around().await;
    }

    /// Loses the commands of a compensation: the saga is stuck, is shown as stuck, and is skipped by an operator. A
    /// compensation without a settlement is resent until it is done, here more often than any other.
    async fn undo_fails_always(&self) {
        let Self { cell, order, .. } = self;
        let (saga, system) = (saga_id(*order, self.saga), self.crowd.system);
        let undo = self.command("undo");
        let mut steps = definition(self.saga).steps.iter();
        if !steps.any(|step| step.name == cell.step && step.settlement.is_some()) {
            undo.rule(&[Drop; 11], Forward);
            return self.turns_around().await;
        }
        undo.rule(&[], Drop);
        self.turns_around().await;
        self.comes_to(self.saga, &["stuck"]).await;
        let stuck = told::in_phase(system, "stuck").await;
        let row = stuck.iter().find(|row| row["id"] == saga.to_string());
        let row = row.unwrap_or_else(|| panic!("{cell} is not among {stuck:?}"));
        assert_eq!(
            (&row["step"], &row["direction"], &row["error"]),
            (
                &json!(cell.step),
                &json!("undo"),
                &json!("no answer to 10 attempts")
            ),
            "{row}"
        );
        assert!(row["stuck_since"].is_string(), "{row}");
        eventually("a metric to alert on", || async {
            let metrics = system.metrics("orchestrator").await;
            let is_shown = (1..=4)
                .any(|n| metrics.contains(&format!("sagas_stuck{{service=\"orchestrator\"}} {n}")));
            if is_shown { Ok(()) } else { Err(metrics) }
        })
        .await;
        let shown = system.api.order(*order).await.expect("order answers");
        assert_eq!(shown["at_rest"], false, "{shown}");
        let done = told::operate(system, saga, "skip", "paid back by hand").await;
        assert_eq!(done, 202, "{cell}");
    }

    /// Undoes a step whose outcome is unknown, and whose command arrives after that.
    ///
    /// Two compensations undo what no command of the saga did. The order was accepted by the order service: the saga
    /// does not know what happened to it since. And the customer gets a mail about the outcome of a charge that was not
    /// answered.
    async fn undo_of_unknown(&self) {
        let probe = &self.crowd.system.probe;
        match self.cell.step {
            "create_order" => {
                let start = self.lane(COMMANDS, start_key(self.order, self.saga));
                start.rule(&[], Hold);
                self.begins().await;
                start.held().await;
                self.cancel().await;
                // The request to cancel arrives before there is a saga.
                let hint = probe
                    .wait_for("order.cancel_requested.v1", self.order)
                    .await;
                self.taken_in("orchestrator.commands", &[hint.id]).await;
                start.release().await;
            }
            "tell_customer" => {
                let charge = key(self.order, self.saga, "charge_payment", "do");
                self.lane(COMMANDS, charge).rule(&[], Drop);
                self.begins().await;
            }
            _ => {
                let command = self.command("do");
                command.rule(&[], Hold);
                self.begins().await;
                self.comes_too_late(async || {
                    command.release().await;
                    let refused = probe.wait_for_reply(&command.key).await;
                    assert_eq!(refused.data["reason"], "order_cancelled", "{refused:?}");
                    vec![refused.id]
                })
                .await;
            }
        }
    }
}
