//! The properties of an orchestrated order.

use holdfast::saga::{End, Phase, State};
use inventory::domain as stock;
use order::domain::{Order, State as OrderState, Undo, Undoing};
use payment::domain as money;
use stateright::{Model, Property};

use super::{
    super::{bag::Bag, books::Books, search::Driven},
    Message, News, Saga, Sagas, Scenario, Step, World,
};

impl World {
    /// Returns whether the order's state agrees with what was done for it. True at any moment.
    fn is_consistent(&self) -> bool {
        match self.order.state {
            OrderState::Pending | OrderState::Cancelling(_) => true,
            // Charged and reserved before the confirmation, and nothing undone after it.
            OrderState::Confirmed { committed: false } => self.books.taken(),
            OrderState::Confirmed { committed: true } => self.books.sold(),
            OrderState::Cancelled(undoing) => self.is_undone(undoing),
        }
    }

    /// Returns true if everything is undone, or never was begun, as the order's row has it.
    fn is_undone(&self, undoing: Undoing) -> bool {
        use money::State as M;
        use stock::State as S;
        let payment = matches!(
            (undoing.payment, self.books.payment),
            (Some(Undo::Undone), Some(M::Refunded))
                | (Some(Undo::NothingToUndo), Some(M::Void | M::Declined(_)))
                | (Some(Undo::Settled), Some(M::Settled))
        );
        let inventory = matches!(
            (undoing.inventory, &self.books.reservation),
            (Some(Undo::Undone), Some(S::Released { .. }))
                | (
                    Some(Undo::NothingToUndo),
                    None | Some(S::Void | S::Rejected(_))
                )
                | (Some(Undo::Settled), Some(S::Settled))
        );
        payment && inventory
    }

    /// Returns whether the sagas agree with the order.
    fn sagas_agree(&self) -> bool {
        self.sagas.started().all(|(saga, state)| {
            let cancelled = matches!(self.order.state, OrderState::Cancelled(_));
            match (saga, state.phase, &state.cause) {
                // A confirmed order is undone only by its customer, and by the other saga.
                (Saga::Place, _, Some(_)) if self.was_confirmed => false,
                (Saga::Place, Phase::Ended(_), None) => self.was_confirmed,
                (Saga::Place, Phase::Ended(_), Some(_)) => cancelled,
                (Saga::Undo, Phase::Ended(_), _) => cancelled && self.was_confirmed,
                (_, Phase::Active | Phase::Stuck, _) => true,
            }
        })
    }

    /// Returns whether everything has ended well: no saga goes on, the order is at rest, the money agrees, and the
    /// customer has the news.
    fn is_at_rest(&self, scenario: &Scenario) -> bool {
        let told = match self.order.state {
            OrderState::Confirmed { .. } => News::Confirmed,
            _ => News::Cancelled,
        };
        !self.sagas.go_on()
            && self.order.is_at_rest()
            && self.books.money_agrees(scenario.terms)
            && self.told == Some(told)
    }
}

impl Model for Scenario {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        // The order's row and the request for its saga are committed in one transaction.
        let mut on_the_way = Bag::default();
        on_the_way.add(Message::Start(Saga::Place));
        vec![World {
            order: Order::NEW,
            was_confirmed: false,
            sagas: Sagas::default(),
            books: Books::new(self.terms),
            asked_by: None,
            told: None,
            on_the_way,
            budget: self.budget,
            refused: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Step>) {
        if world.refused.is_none() {
            actions.extend(world.musts(self.without));
            actions.extend(world.mays(self.without));
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
                "confirmed is charged and reserved, completed is sold, cancelled is undone as it says",
                |_, world: &World| world.is_consistent(),
            ),
            Property::always(
                "the sagas and the order tell the same story",
                |_, world: &World| world.sagas_agree(),
            ),
            Property::always(
                "what the customer cancelled is not confirmed any more",
                |scenario: &Self, world: &World| {
                    world.budget.cancels == scenario.budget.cancels
                        || matches!(
                            world.order.state,
                            OrderState::Cancelling(_) | OrderState::Cancelled(_)
                        )
                },
            ),
            Property::always(
                "when nothing has to happen any more, everything is at rest and all books agree",
                |scenario: &Self, world: &World| {
                    !scenario.musts(world).is_empty() || world.is_at_rest(scenario)
                },
            ),
            Property::sometimes("an order is confirmed", |_, world: &World| {
                world.order.state == OrderState::Confirmed { committed: true }
            }),
            Property::sometimes("an order is cancelled", |_, world: &World| {
                matches!(world.order.state, OrderState::Cancelled(_))
            }),
            Property::sometimes("a saga is compensated", |_, world: &World| {
                let mut sagas = world.sagas.started();
                sagas.any(|(_, state)| state.phase == Phase::Ended(End::Compensated))
            }),
            Property::sometimes("a saga is stuck", |_, world: &World| {
                let mut sagas = world.sagas.started();
                sagas.any(|(_, state)| state.phase == Phase::Stuck)
            }),
            Property::sometimes("both sagas are at work", |_, world: &World| {
                let at_work = |(_, state): &(_, &State)| !state.is_ended();
                world.sagas.started().filter(at_work).count() == 2
            }),
        ]
    }
}

impl Driven for Scenario {
    fn has_to_happen(&self, world: &World, step: &Step) -> bool {
        match step {
            Step::Deliver(_) | Step::CardAnswers(_) => true,
            Step::AskCard(_) => world.books.company.answers.is_empty(),
            Step::TimeOut(_) | Step::Operate(..) => world.is_quiet(),
            Step::Sweep => world.is_quiet() && !world.sagas.go_on(),
            Step::DeliverAndKeep(_) | Step::Lose(_) | Step::AnswerLost(_) | Step::Cancel => false,
        }
    }
}
