//! One choreographed order, and the world around it.

mod step;

use contracts::order::CancelReason;
use inventory::domain as stock;
use order::domain as orders;
use payment::domain as money;
use stateright::{Model, Property};

use super::{
    bag::Bag,
    books::{Books, Heard, Terms},
    facts::Fact,
    guards::Without,
    routing::{Queue, route},
};
pub use step::Step;

/// Limits on the steps that may happen but do not have to. They bound the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Messages that are delivered twice, or published twice.
    pub repeats: u8,
    /// Cancels by the customer.
    pub cancels: u8,
    /// Deadlines that pass.
    pub deadlines: u8,
    /// Sweeps of the order service.
    pub sweeps: u8,
    /// Calls to the card processor that are made while another is under way, or whose response is lost.
    pub card_trouble: u8,
    /// Settlements by an operator.
    pub settlements: u8,
}

/// The order's terms, the trouble that may happen, and the missing guard.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The way of payment, and the money and goods there are.
    pub terms: Terms,
    /// The steps that may happen.
    pub budget: Budget,
    /// The guard that is missing.
    pub without: Without,
}

/// The state of everything: databases, broker, card processor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub order: orders::Order,
    pub deadline_runs: bool,
    pub books: Books,
    /// Messages that are committed and not yet published.
    pub outbox: Bag<Fact>,
    /// Messages in queues.
    pub queued: Bag<(Queue, Fact)>,
    pub budget: Budget,
    /// The error of a transition function that refused a message. Nothing happens after that.
    pub refused: Option<String>,
}

impl World {
    fn order_hears(&mut self, input: orders::Input, without: Without) {
        match without.decide_order(self.order, input) {
            Ok(orders::Decision { order, effect }) => {
                self.order = order;
                match effect {
                    None => {}
                    Some(orders::Effect::StartDeadline) => self.deadline_runs = true,
                    Some(orders::Effect::Publish(fact)) => self.commit(fact.into(), without),
                }
            }
            Err(illegal) => self.refused = Some(illegal.to_string()),
        }
    }

    /// Commits the answer of a participant, or records its refusal.
    fn heard(&mut self, heard: Heard, without: Without) {
        match heard {
            Ok(None) => {}
            Ok(Some(answer)) => self.commit(answer, without),
            Err(refused) => self.refused = Some(refused),
        }
    }

    /// Commits a message with the change that it reports.
    fn commit(&mut self, fact: Fact, without: Without) {
        // Without an outbox a crash after the commit loses the message. Here the first possible crash happens.
        if without == Without::Outbox && self.budget.repeats > 0 {
            self.budget.repeats -= 1;
            return;
        }
        self.outbox.add(fact);
    }

    fn publish(&mut self, fact: Fact) {
        for queue in route(fact) {
            self.queued.add((*queue, fact));
        }
    }

    fn deliver(&mut self, queue: Queue, fact: Fact, scenario: &Scenario) {
        let without = scenario.without;
        match queue {
            Queue::Order => {
                use orders::Undo::{NothingToUndo, Settled, Undone};
                let input = match fact {
                    Fact::OrderCreated => orders::Input::Heard,
                    Fact::PaymentDeclined => orders::Input::PaymentDeclined,
                    Fact::PaymentRefunded => orders::Input::PaymentUndo(Undone),
                    Fact::PaymentNothingToUndo => orders::Input::PaymentUndo(NothingToUndo),
                    Fact::PaymentSettled => orders::Input::PaymentUndo(Settled),
                    Fact::InventoryReserved => orders::Input::Reserved,
                    Fact::InventoryRejected => orders::Input::Rejected,
                    Fact::InventoryCommitted => orders::Input::Committed,
                    Fact::InventoryReleased => orders::Input::InventoryUndo(Undone),
                    Fact::InventoryNothingToUndo => orders::Input::InventoryUndo(NothingToUndo),
                    Fact::InventorySettled => orders::Input::InventoryUndo(Settled),
                    other => {
                        return self.refused = Some(format!("order.choreography got {other:?}"));
                    }
                };
                self.order_hears(input, without);
            }
            Queue::Payment => {
                let input = match fact {
                    Fact::OrderCreated => self.books.charge(scenario.terms),
                    Fact::OrderCancelling => money::Input::Cancel,
                    Fact::OrderSettlingPayment => money::Input::Settle,
                    Fact::OrderSettlingInventory => return,
                    other => {
                        return self.refused = Some(format!("payment.choreography got {other:?}"));
                    }
                };
                let heard = self.books.payment_hears(input, without);
                self.heard(heard, without);
            }
            Queue::Inventory => {
                let input = match fact {
                    Fact::PaymentCompleted => self.books.reserve(),
                    Fact::OrderConfirmed => stock::Input::Commit,
                    Fact::OrderCancelling => stock::Input::Release,
                    Fact::OrderSettlingInventory => stock::Input::Settle,
                    Fact::OrderSettlingPayment => return,
                    other => {
                        return self.refused =
                            Some(format!("inventory.choreography got {other:?}"));
                    }
                };
                let heard = self.books.inventory_hears(input, without);
                self.heard(heard, without);
            }
        }
    }

    fn step(&mut self, step: Step, scenario: &Scenario) {
        let without = scenario.without;
        match step {
            Step::Publish(fact) => {
                self.outbox.take(fact);
                self.publish(fact);
            }
            Step::PublishAndDie(fact) => {
                self.budget.repeats -= 1;
                self.publish(fact);
            }
            Step::Deliver(queue, fact) => {
                self.queued.take((queue, fact));
                self.deliver(queue, fact, scenario);
            }
            Step::DeliverAndKeep(queue, fact) => {
                self.budget.repeats -= 1;
                self.deliver(queue, fact, scenario);
            }
            Step::AskCard(ask) => {
                if !self.books.company.answers.is_empty() {
                    self.budget.card_trouble -= 1;
                }
                self.books.company.hears(ask);
            }
            Step::CardAnswers(answer) => {
                let heard = self.books.card_answers(answer, without);
                self.heard(heard, without);
            }
            Step::AnswerLost(answer) => {
                self.budget.card_trouble -= 1;
                let heard = self.books.answer_lost(answer, without);
                self.heard(heard, without);
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

    /// Returns whether the order has ended and every book agrees with its end.
    pub fn books_agree(&self, terms: Terms) -> bool {
        let ends = match self.order.state {
            orders::State::Confirmed { committed: true } => self.books.sold(),
            orders::State::Cancelled(_) => self.books.undone(),
            _ => false,
        };
        ends && self.books.money_agrees(terms)
    }
}

impl Model for Scenario {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let mut world = World {
            order: orders::Order::NEW,
            deadline_runs: false,
            books: Books::new(self.terms),
            outbox: Bag::default(),
            queued: Bag::default(),
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
            Property::always(
                "money and goods are taken at most once, and only given back if they were",
                |scenario: &Self, world: &World| world.books.took_once(scenario.terms),
            ),
            Property::always(
                "when nothing has to happen any more, the order is at rest and all books agree",
                |scenario: &Self, world: &World| {
                    !world.musts().is_empty()
                        || (world.order.is_at_rest() && world.books_agree(scenario.terms))
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
