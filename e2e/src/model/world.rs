//! The world around one order.

use std::{collections::BTreeMap, sync::LazyLock};

use contracts::{
    inventory::RejectReason,
    order::{CancelReason, Participant},
    payment::DeclineReason,
};
use inventory::domain as stock;
use order::domain as orders;
use payment::domain as money;
use stateright::{Model, Property};

use super::{
    guards::Without,
    routing::{Queue, route},
};

/// A message, by its type; its order is the one order of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    OrderCreated,
    OrderConfirmed,
    OrderCancelling,
    OrderCancelled,
    OrderSettlingPayment,
    OrderSettlingInventory,
    PaymentCompleted,
    PaymentDeclined,
    PaymentRefunded,
    PaymentNothingToUndo,
    PaymentSettled,
    InventoryReserved,
    InventoryRejected,
    InventoryCommitted,
    InventoryReleased,
    InventoryNothingToUndo,
    InventorySettled,
}

impl Fact {
    const ALL: [Self; 17] = [
        Self::OrderCreated,
        Self::OrderConfirmed,
        Self::OrderCancelling,
        Self::OrderCancelled,
        Self::OrderSettlingPayment,
        Self::OrderSettlingInventory,
        Self::PaymentCompleted,
        Self::PaymentDeclined,
        Self::PaymentRefunded,
        Self::PaymentNothingToUndo,
        Self::PaymentSettled,
        Self::InventoryReserved,
        Self::InventoryRejected,
        Self::InventoryCommitted,
        Self::InventoryReleased,
        Self::InventoryNothingToUndo,
        Self::InventorySettled,
    ];

    fn kind(self) -> &'static str {
        match self {
            Self::OrderCreated => "order.created.v1",
            Self::OrderConfirmed => "order.confirmed.v1",
            Self::OrderCancelling => "order.cancelling.v1",
            Self::OrderCancelled => "order.cancelled.v1",
            Self::OrderSettlingPayment | Self::OrderSettlingInventory => "order.settling.v1",
            Self::PaymentCompleted => "payment.completed.v1",
            Self::PaymentDeclined => "payment.declined.v1",
            Self::PaymentRefunded => "payment.refunded.v1",
            Self::PaymentNothingToUndo => "payment.nothing_to_undo.v1",
            Self::PaymentSettled => "payment.settled.v1",
            Self::InventoryReserved => "inventory.reserved.v1",
            Self::InventoryRejected => "inventory.rejected.v1",
            Self::InventoryCommitted => "inventory.committed.v1",
            Self::InventoryReleased => "inventory.released.v1",
            Self::InventoryNothingToUndo => "inventory.nothing_to_undo.v1",
            Self::InventorySettled => "inventory.settled.v1",
        }
    }
}

/// What the card company holds, under the order's idempotency keys: its own durable ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CardCompany {
    /// What it decided about the charge, once for ever.
    pub charge: Option<bool>,
    /// Whether it gave the money back.
    pub refunded: bool,
}

/// An answer of the card company, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CardAnswer {
    Captured,
    Declined,
    Refunded,
}

/// What may still happen that does not have to. It bounds the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Messages that are delivered twice, or published twice.
    pub repeats: u8,
    /// Cancels by the customer.
    pub cancels: u8,
    /// Deadlines that pass.
    pub deadlines: u8,
    /// Questions that are asked again.
    pub sweeps: u8,
    /// Calls of the card company that are made although one is under way, or whose answer is lost.
    pub card_trouble: u8,
    /// Settlements by an operator.
    pub settlements: u8,
}

/// How the order is paid, what there is, and what may happen.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// By card, or from the wallet.
    pub card: bool,
    /// Whether the wallet holds enough. (The card company decides for itself.)
    pub funds: bool,
    /// Whether the unit is there.
    pub in_stock: bool,
    /// What may happen.
    pub budget: Budget,
    /// Which guard is missing.
    pub without: Without,
}

/// Everything there is: databases, broker, card company.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub order: orders::Order,
    pub deadline_runs: bool,
    pub payment: Option<money::State>,
    /// What is in the wallet; the order costs 1.
    pub balance: i8,
    pub reservation: Option<stock::State>,
    pub stock: stock::Stock,
    pub company: CardCompany,
    /// Answers of the card company on their way.
    pub answers: BTreeMap<CardAnswer, u8>,
    /// Committed, not yet published.
    pub outbox: BTreeMap<Fact, u8>,
    /// In a queue.
    pub queued: BTreeMap<(Queue, Fact), u8>,
    pub budget: Budget,
    /// A transition function refused a message.
    pub refused: Option<String>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The relay publishes, and deletes the row.
    Publish(Fact),
    /// The relay publishes, and dies before it deletes the row.
    PublishAndDie(Fact),
    /// A service handles a message, and acknowledges it.
    Deliver(Queue, Fact),
    /// A service handles a message, and it comes again.
    DeliverAndKeep(Queue, Fact),
    /// The worker asks the card company to charge, which decides so if it has not decided yet.
    AskCharge { captures: bool },
    /// The worker asks the card company to refund.
    AskRefund,
    /// An answer of the card company arrives.
    CardAnswers(CardAnswer),
    /// An answer of the card company does not arrive.
    AnswerLost(CardAnswer),
    /// The customer cancels.
    Cancel,
    /// The deadline passes.
    Deadline,
    /// The order service asks again.
    Sweep,
    /// An operator settles a participant's part.
    Settle(Participant),
}

fn add<K: Ord>(bag: &mut BTreeMap<K, u8>, item: K) {
    *bag.entry(item).or_default() += 1;
}

fn take<K: Ord>(bag: &mut BTreeMap<K, u8>, item: &K) {
    if let Some(count) = bag.get_mut(item) {
        *count -= 1;
        if *count == 0 {
            bag.remove(item);
        }
    }
}

impl World {
    /// What has to happen, sooner or later. When nothing has to, the order must be at rest.
    pub fn musts(&self) -> Vec<Step> {
        let mut musts: Vec<Step> = self
            .outbox
            .keys()
            .map(|fact| Step::Publish(*fact))
            .collect();
        musts.extend(
            self.queued
                .keys()
                .map(|(queue, fact)| Step::Deliver(*queue, *fact)),
        );
        musts.extend(self.answers.keys().map(|answer| Step::CardAnswers(*answer)));
        if self.answers.is_empty() {
            musts.extend(self.asks());
        }
        musts
    }

    /// What the worker asks the card company now.
    fn asks(&self) -> Vec<Step> {
        match (self.payment, self.company.charge) {
            (Some(money::State::Charging { .. }), None) => {
                vec![
                    Step::AskCharge { captures: true },
                    Step::AskCharge { captures: false },
                ]
            }
            (Some(money::State::Charging { .. }), Some(captures)) => {
                vec![Step::AskCharge { captures }]
            }
            (Some(money::State::Refunding), _) => vec![Step::AskRefund],
            _ => Vec::new(),
        }
    }

    /// What may happen.
    fn mays(&self) -> Vec<Step> {
        let mut mays = Vec::new();
        if self.budget.repeats > 0 {
            mays.extend(self.outbox.keys().map(|fact| Step::PublishAndDie(*fact)));
            mays.extend(
                self.queued
                    .keys()
                    .map(|(queue, fact)| Step::DeliverAndKeep(*queue, *fact)),
            );
        }
        if self.budget.card_trouble > 0 {
            mays.extend(self.answers.keys().map(|answer| Step::AnswerLost(*answer)));
            if !self.answers.is_empty() {
                mays.extend(self.asks());
            }
        }
        if self.budget.cancels > 0 {
            mays.push(Step::Cancel);
        }
        if self.budget.deadlines > 0
            && self.deadline_runs
            && self.order.state == orders::State::Pending
        {
            mays.push(Step::Deadline);
        }
        if self.budget.sweeps > 0 && !self.order.is_at_rest() {
            mays.push(Step::Sweep);
        }
        if self.budget.settlements > 0
            && let orders::State::Cancelling(undoing) = self.order.state
        {
            if undoing.payment.is_none() {
                mays.push(Step::Settle(Participant::Payment));
            }
            if undoing.inventory.is_none() {
                mays.push(Step::Settle(Participant::Inventory));
            }
        }
        mays
    }

    fn order_hears(&mut self, input: orders::Input, without: Without) {
        match without.decide_order(self.order, input) {
            Ok(orders::Decision { order, effect }) => {
                self.order = order;
                match effect {
                    None => {}
                    Some(orders::Effect::StartDeadline) => self.deadline_runs = true,
                    Some(orders::Effect::Publish(fact)) => self.commit(
                        match fact {
                            orders::Fact::Created => Fact::OrderCreated,
                            orders::Fact::Confirmed => Fact::OrderConfirmed,
                            orders::Fact::Cancelling(_) => Fact::OrderCancelling,
                            orders::Fact::Settling(Participant::Payment) => {
                                Fact::OrderSettlingPayment
                            }
                            orders::Fact::Settling(Participant::Inventory) => {
                                Fact::OrderSettlingInventory
                            }
                            orders::Fact::Cancelled { .. } => Fact::OrderCancelled,
                        },
                        without,
                    ),
                }
            }
            Err(illegal) => self.refused = Some(illegal.to_string()),
        }
    }

    fn payment_hears(&mut self, input: money::Input, without: Without) {
        match without.decide_payment(self.payment, input) {
            Ok(money::Decision {
                state,
                booking,
                answer,
            }) => {
                self.payment = Some(state);
                match booking {
                    None => {}
                    Some(money::Booking::Debit) => self.balance -= 1,
                    Some(money::Booking::Credit) => self.balance += 1,
                }
                if let Some(answer) = answer {
                    self.commit(
                        match answer {
                            money::Answer::Completed => Fact::PaymentCompleted,
                            money::Answer::Declined(_) => Fact::PaymentDeclined,
                            money::Answer::Refunded => Fact::PaymentRefunded,
                            money::Answer::NothingToUndo => Fact::PaymentNothingToUndo,
                            money::Answer::Settled => Fact::PaymentSettled,
                        },
                        without,
                    );
                }
            }
            Err(illegal) => self.refused = Some(illegal.to_string()),
        }
    }

    fn inventory_hears(&mut self, input: stock::Input, without: Without) {
        match without.decide_inventory(self.reservation.as_ref(), input) {
            Ok(stock::Decision {
                state,
                moves,
                answer,
            }) => {
                self.reservation = Some(state);
                if let Some((from, to)) = moves
                    && let Err(shortfall) = self.stock.move_units(1, from, to)
                {
                    self.refused = Some(shortfall.to_string());
                }
                if let Some(answer) = answer {
                    self.commit(
                        match answer {
                            stock::Answer::Reserved => Fact::InventoryReserved,
                            stock::Answer::Rejected(_) => Fact::InventoryRejected,
                            stock::Answer::Committed => Fact::InventoryCommitted,
                            stock::Answer::Released { .. } => Fact::InventoryReleased,
                            stock::Answer::NothingToUndo => Fact::InventoryNothingToUndo,
                            stock::Answer::Settled => Fact::InventorySettled,
                        },
                        without,
                    );
                }
            }
            Err(illegal) => self.refused = Some(illegal.to_string()),
        }
    }

    /// A message is committed with the change that it tells of.
    fn commit(&mut self, fact: Fact, without: Without) {
        // Without an outbox a crash after the commit loses it; here one does, the first time that it can.
        if without == Without::Outbox && self.budget.repeats > 0 {
            self.budget.repeats -= 1;
            return;
        }
        add(&mut self.outbox, fact);
    }

    fn publish(&mut self, fact: Fact) {
        /// By type, worked out once.
        static ROUTES: LazyLock<BTreeMap<Fact, Vec<Queue>>> = LazyLock::new(|| {
            Fact::ALL
                .into_iter()
                .map(|fact| (fact, route(fact.kind())))
                .collect()
        });
        for queue in ROUTES.get(&fact).into_iter().flatten() {
            add(&mut self.queued, (*queue, fact));
        }
    }

    fn deliver(&mut self, queue: Queue, fact: Fact, scenario: &Scenario) {
        let without = scenario.without;
        match queue {
            Queue::Order => {
                let input = match fact {
                    Fact::OrderCreated => orders::Input::Heard,
                    Fact::PaymentDeclined => orders::Input::PaymentDeclined,
                    Fact::PaymentRefunded => orders::Input::PaymentUndo(orders::Undo::Undone),
                    Fact::PaymentNothingToUndo => {
                        orders::Input::PaymentUndo(orders::Undo::NothingToUndo)
                    }
                    Fact::PaymentSettled => orders::Input::PaymentUndo(orders::Undo::Settled),
                    Fact::InventoryReserved => orders::Input::Reserved,
                    Fact::InventoryRejected => orders::Input::Rejected,
                    Fact::InventoryCommitted => orders::Input::Committed,
                    Fact::InventoryReleased => orders::Input::InventoryUndo(orders::Undo::Undone),
                    Fact::InventoryNothingToUndo => {
                        orders::Input::InventoryUndo(orders::Undo::NothingToUndo)
                    }
                    Fact::InventorySettled => orders::Input::InventoryUndo(orders::Undo::Settled),
                    other => {
                        return self.refused = Some(format!("order.choreography got {other:?}"));
                    }
                };
                self.order_hears(input, without);
            }
            Queue::Payment => {
                let input = match fact {
                    Fact::OrderCreated if scenario.card => money::Input::Charge(money::Means::Card),
                    Fact::OrderCreated => {
                        let enough = if self.balance >= 1 {
                            Ok(())
                        } else {
                            Err(DeclineReason::InsufficientFunds)
                        };
                        money::Input::Charge(money::Means::Wallet(enough))
                    }
                    Fact::OrderCancelling => money::Input::Cancel,
                    Fact::OrderSettlingPayment => money::Input::Settle,
                    Fact::OrderSettlingInventory => return,
                    other => {
                        return self.refused = Some(format!("payment.choreography got {other:?}"));
                    }
                };
                self.payment_hears(input, without);
            }
            Queue::Inventory => {
                let input = match fact {
                    Fact::PaymentCompleted => stock::Input::Reserve(if self.stock.available >= 1 {
                        Ok(())
                    } else {
                        Err(stock::Rejection {
                            reason: RejectReason::OutOfStock,
                            sku: None,
                        })
                    }),
                    Fact::OrderConfirmed => stock::Input::Commit,
                    Fact::OrderCancelling => stock::Input::Release,
                    Fact::OrderSettlingInventory => stock::Input::Settle,
                    Fact::OrderSettlingPayment => return,
                    other => {
                        return self.refused =
                            Some(format!("inventory.choreography got {other:?}"));
                    }
                };
                self.inventory_hears(input, without);
            }
        }
    }

    fn step(&mut self, step: Step, scenario: &Scenario) {
        let without = scenario.without;
        match step {
            Step::Publish(fact) => {
                take(&mut self.outbox, &fact);
                self.publish(fact);
            }
            Step::PublishAndDie(fact) => {
                self.budget.repeats -= 1;
                self.publish(fact);
            }
            Step::Deliver(queue, fact) => {
                take(&mut self.queued, &(queue, fact));
                self.deliver(queue, fact, scenario);
            }
            Step::DeliverAndKeep(queue, fact) => {
                self.budget.repeats -= 1;
                self.deliver(queue, fact, scenario);
            }
            Step::AskCharge { captures } => {
                if !self.answers.is_empty() {
                    self.budget.card_trouble -= 1;
                }
                let captured = *self.company.charge.get_or_insert(captures);
                add(
                    &mut self.answers,
                    if captured {
                        CardAnswer::Captured
                    } else {
                        CardAnswer::Declined
                    },
                );
            }
            Step::AskRefund => {
                if !self.answers.is_empty() {
                    self.budget.card_trouble -= 1;
                }
                self.company.refunded = true;
                add(&mut self.answers, CardAnswer::Refunded);
            }
            Step::CardAnswers(answer) => {
                take(&mut self.answers, &answer);
                let input = match answer {
                    CardAnswer::Captured => money::Input::CardCaptured,
                    CardAnswer::Declined => money::Input::CardDeclined(DeclineReason::CardDeclined),
                    CardAnswer::Refunded => money::Input::CardRefunded,
                };
                self.payment_hears(input, without);
            }
            Step::AnswerLost(answer) => {
                take(&mut self.answers, &answer);
                self.budget.card_trouble -= 1;
                if let Some(input) = without.no_answer() {
                    self.payment_hears(input, without);
                }
            }
            Step::Cancel => {
                self.budget.cancels -= 1;
                self.order_hears(orders::Input::Cancel(CancelReason::Customer), without);
            }
            Step::Deadline => {
                self.budget.deadlines -= 1;
                self.order_hears(orders::Input::Cancel(CancelReason::Deadline), without);
            }
            Step::Sweep => {
                self.budget.sweeps -= 1;
                self.order_hears(orders::Input::Sweep, without);
            }
            Step::Settle(participant) => {
                self.budget.settlements -= 1;
                self.order_hears(orders::Input::Settle(participant), without);
            }
        }
    }

    /// Whether every book says the same.
    pub fn books_agree(&self, scenario: &Scenario) -> bool {
        let funded = i8::from(scenario.funds);
        let taken = self.balance
            + i8::from(self.payment == Some(money::State::Captured(money::Method::Wallet)));
        let wallet = taken == funded
            // Written off: taken, and not given back.
            || (self.payment == Some(money::State::Settled) && self.balance <= funded);
        let kept = self.company.charge == Some(true) && !self.company.refunded;
        let card = kept == (self.payment == Some(money::State::Captured(money::Method::Card)))
            // What an operator wrote off may be with the card company or not: the operator sees to that.
            || self.payment == Some(money::State::Settled);
        let ends = match self.order.state {
            orders::State::Confirmed { committed: true } => {
                matches!(self.payment, Some(money::State::Captured(_)))
                    && self.reservation == Some(stock::State::Sold)
                    && self.stock.sold == 1
            }
            orders::State::Cancelled(_) => {
                matches!(
                    self.payment,
                    Some(
                        money::State::Declined(_)
                            | money::State::Refunded
                            | money::State::Void
                            | money::State::Settled
                    )
                ) && matches!(
                    self.reservation,
                    Some(
                        stock::State::Rejected(_)
                            | stock::State::Released { .. }
                            | stock::State::Void
                            | stock::State::Settled
                    )
                ) && self.stock.sold == 0
                    && self.stock.reserved == 0
            }
            _ => false,
        };
        let stock::Stock {
            available,
            reserved,
            sold,
            written_off,
        } = self.stock;
        let units = available + reserved + sold + written_off == i64::from(scenario.in_stock);
        wallet && card && ends && units
    }
}

impl Model for Scenario {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let mut world = World {
            order: orders::Order::NEW,
            deadline_runs: false,
            payment: None,
            balance: i8::from(self.funds),
            reservation: None,
            stock: stock::Stock {
                available: self.in_stock.into(),
                ..stock::Stock::default()
            },
            company: CardCompany::default(),
            answers: BTreeMap::new(),
            outbox: BTreeMap::new(),
            queued: BTreeMap::new(),
            budget: self.budget,
            refused: None,
        };
        world.commit(Fact::OrderCreated, self.without);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        if world.refused.is_none() {
            actions.extend(world.musts());
            actions.extend(world.mays());
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.step(step, self);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no message is refused", |_, world: &World| {
                world.refused.is_none()
            }),
            Property::always("no balance and no shelf is negative", |_, world: &World| {
                world.balance >= 0 && world.stock.available >= 0
            }),
            Property::always(
                "money is only given back that was taken",
                |scenario: &Self, world: &World| {
                    world.balance <= i8::from(scenario.funds)
                        && (!world.company.refunded || world.company.charge == Some(true))
                },
            ),
            Property::always(
                "when nothing has to happen any more, the order is at rest and all books agree",
                {
                    |scenario: &Self, world: &World| {
                        !world.musts().is_empty()
                            || (world.order.is_at_rest() && world.books_agree(scenario))
                    }
                },
            ),
            Property::sometimes("an order is confirmed", |_, world: &World| {
                world.order.state == orders::State::Confirmed { committed: true }
            }),
            Property::sometimes("an order is cancelled", |_, world: &World| {
                matches!(world.order.state, orders::State::Cancelled(_))
            }),
        ]
    }
}
