//! One orchestrated order, and the world around it.
//!
//! A message is on its way from the commit that wrote it to the commit that handled it. Other services see no
//! difference between a message in an outbox, in a queue or in a service that fails to handle it, since each message
//! goes to one queue (the events of choreography do not). A message that is published twice is delivered twice. A
//! service that dies before its commit has not yet handled the message; one that dies after its commit and before its
//! acknowledgement gets it again. So a crash of the orchestrator at any line is a step of the model: it has only its
//! rows to lose.

mod laws;
mod message;
mod saga;
mod step;

use contracts::order::CancelReason;
use holdfast::saga::{Answer, Input};
use inventory::domain as stock;
use order::domain::{Order, orchestrated};
use payment::domain as money;

use super::{
    bag::Bag,
    books::{Books, Heard, Terms},
    facts::Fact,
    guards::Without,
};
use message::outcome;
pub use message::{Became, Command, Key, Message, News, Saga};
use saga::Plans;
pub use saga::Sagas;
pub use step::Step;

/// Limits on the steps that may happen but do not have to. They bound the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Messages that are delivered twice.
    pub repeats: u8,
    /// Messages of any kind that are lost: each is resent by some service.
    pub losses: u8,
    /// Timeouts of sagas while something is on its way.
    pub timeouts: u8,
    /// Cancels by the customer.
    pub cancels: u8,
    /// Sweeps of the order service while something is on its way or a saga goes on.
    pub sweeps: u8,
    /// Calls to the card processor that are made while another is under way, or whose response is lost.
    pub card_trouble: u8,
    /// Decisions of an operator about a stuck saga while something is on its way.
    pub decisions: u8,
}

/// The order's terms, the trouble that may happen, the missing guard and the sagas' plans.
#[derive(Clone, Debug)]
pub struct Scenario {
    terms: Terms,
    budget: Budget,
    without: Without,
    plans: Plans,
}

/// The state of everything: databases, broker, card processor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub order: Order,
    pub was_confirmed: bool,
    pub sagas: Sagas,
    pub books: Books,
    /// The command to which payment replies once the card processor has answered.
    pub asked_by: Option<Key>,
    /// The newest news that the customer got.
    pub told: Option<News>,
    pub on_the_way: Bag<Message>,
    pub budget: Budget,
    /// The error of a transition function that refused a message. Nothing happens after that.
    pub refused: Option<String>,
}

impl Scenario {
    /// Returns a scenario in which a saga sends a command at most `attempts` times, except where there is no limit.
    pub fn new(terms: Terms, budget: Budget, attempts: u32, without: Without) -> Self {
        Self {
            terms,
            budget,
            without,
            plans: Plans::new(attempts, without),
        }
    }

    /// Returns the steps that have to happen in a world, sooner or later.
    pub fn musts(&self, world: &World) -> Vec<Step> {
        world.musts(self.without)
    }
}

impl World {
    fn deliver(&mut self, message: Message, scenario: &Scenario) {
        let plans = &scenario.plans;
        match message {
            Message::Start(saga) => {
                let asks = self.sagas.start(saga, plans);
                self.ask(asks, plans);
            }
            Message::CancelRequested => {
                // Without a saga there is nothing to give up; the order's row refuses the confirmation in any case.
                let reason = String::new();
                let asks = self
                    .sagas
                    .hears(Saga::Place, Input::Cancel { reason }, plans);
                self.ask(asks, plans);
            }
            Message::Answer(
                Key {
                    saga,
                    step,
                    direction,
                },
                fact,
            ) => {
                let input = Input::Reply {
                    step,
                    direction,
                    outcome: outcome(fact),
                    answer: Answer::new(fact.kind()),
                };
                let asks = self.sagas.hears(saga, input, plans);
                self.ask(asks, plans);
            }
            Message::Ask(key, command) => self.obey(key, command, scenario),
        }
    }

    /// Sends the command of a saga's step.
    fn ask(&mut self, key: Option<Key>, plans: &Plans) {
        if let Some(key) = key
            && let Some(state) = self.sagas.get(key.saga)
        {
            let command = message::command(plans.of(key.saga), state, key.step, key.direction);
            self.on_the_way.add(Message::Ask(key, command));
        }
    }

    /// Has a service carry out a command.
    fn obey(&mut self, key: Key, command: Command, scenario: &Scenario) {
        use orchestrated::Input as OrderInput;
        match command {
            Command::Charge => self.payment_hears(key, self.books.charge(scenario.terms), scenario),
            Command::Refund => self.payment_hears(key, money::Input::Cancel, scenario),
            Command::SettlePayment => self.payment_hears(key, money::Input::Settle, scenario),
            Command::Reserve => self.inventory_hears(key, self.books.reserve(), scenario),
            Command::Commit => self.inventory_hears(key, stock::Input::Commit, scenario),
            Command::Release => self.inventory_hears(key, stock::Input::Release, scenario),
            Command::SettleInventory => self.inventory_hears(key, stock::Input::Settle, scenario),
            Command::Confirm => self.order_hears(Some(key), OrderInput::Confirm, scenario),
            Command::Complete => self.order_hears(Some(key), OrderInput::Complete, scenario),
            Command::Cancel { payment, inventory } => {
                let cancel = OrderInput::Cancel {
                    reason: CancelReason::Deadline,
                    payment: payment.into(),
                    inventory: inventory.into(),
                };
                self.order_hears(Some(key), cancel, scenario);
            }
            Command::Tell(news) => {
                // A customer who got newer news does not get older news.
                self.told = self.told.max(Some(news));
                let queued = Fact::NotificationQueued;
                self.on_the_way.add(Message::Answer(key, queued));
            }
        }
    }

    fn order_hears(&mut self, key: Option<Key>, input: orchestrated::Input, scenario: &Scenario) {
        let decided = (scenario.without).decide_orchestrated(self.order, self.was_confirmed, input);
        match decided {
            Ok(decision) => {
                self.order = decision.order;
                self.was_confirmed = decision.was_confirmed;
                if let Some(saga) = decision.start {
                    self.on_the_way.add(Message::Start(saga.into()));
                }
                if decision.give_up.is_some() {
                    self.on_the_way.add(Message::CancelRequested);
                }
                if let (Some(key), Some(reply)) = (key, decision.reply) {
                    let fact = reply.answer.into();
                    self.on_the_way.add(Message::Answer(key, fact));
                }
            }
            Err(illegal) => self.refused = Some(illegal.to_string()),
        }
    }

    fn payment_hears(&mut self, key: Key, input: money::Input, scenario: &Scenario) {
        let was = self.books.payment;
        let heard = self.books.payment_hears(input, scenario.without);
        // As in `payment::commands`: the reply goes to the last command that changed something, or that requested an
        // undo under way again.
        let undoes = input == money::Input::Cancel && heard == Ok(None);
        if self.books.payment != was || undoes {
            self.asked_by = Some(key);
        }
        self.answered(Some(key), heard);
        self.forget();
    }

    /// Takes in the response of the card processor, or its loss.
    fn card_said(&mut self, heard: Heard) {
        self.answered(self.asked_by, heard);
        self.forget();
    }

    /// Forgets the command to reply to, once payment has decided.
    fn forget(&mut self) {
        let open = matches!(
            self.books.payment,
            Some(money::State::Charging { .. } | money::State::Refunding)
        );
        if !open {
            self.asked_by = None;
        }
    }

    fn inventory_hears(&mut self, key: Key, input: stock::Input, scenario: &Scenario) {
        let heard = self.books.inventory_hears(input, scenario.without);
        self.answered(Some(key), heard);
    }

    fn answered(&mut self, key: Option<Key>, heard: Heard) {
        match (key, heard) {
            (Some(key), Ok(Some(fact))) => self.on_the_way.add(Message::Answer(key, fact)),
            (_, Ok(_)) => {}
            (_, Err(refused)) => self.refused = Some(refused),
        }
    }

    fn step(&mut self, step: Step, scenario: &Scenario) {
        let (without, plans) = (scenario.without, &scenario.plans);
        // Counts a step of the clock that comes while something is on its way.
        let early = u8::from(!self.is_quiet());
        match step {
            Step::Deliver(message) => {
                self.on_the_way.take(message);
                self.deliver(message, scenario);
            }
            Step::DeliverAndKeep(message) => {
                self.budget.repeats -= 1;
                self.deliver(message, scenario);
            }
            Step::Lose(message) => {
                self.budget.losses -= 1;
                self.on_the_way.take(message);
            }
            Step::AskCard(ask) => {
                if !self.books.company.answers.is_empty() {
                    self.budget.card_trouble -= 1;
                }
                self.books.company.hears(ask);
            }
            Step::CardAnswers(answer) => {
                let heard = self.books.card_answers(answer, without);
                self.card_said(heard);
            }
            Step::AnswerLost(answer) => {
                self.budget.card_trouble -= 1;
                let heard = self.books.answer_lost(answer, without);
                self.card_said(heard);
            }
            Step::TimeOut(saga) => {
                self.budget.timeouts -= early;
                if let Some(state) = self.sagas.get(saga) {
                    let input = saga::timed_out(state);
                    let asks = self.sagas.hears(saga, input, plans);
                    self.ask(asks, plans);
                }
            }
            Step::Operate(saga, action) => {
                self.budget.decisions -= early;
                let by = saga::somebody();
                let input = Input::Operator { action, by };
                let asks = self.sagas.hears(saga, input, plans);
                self.ask(asks, plans);
            }
            Step::Sweep => {
                if early > 0 || self.sagas.go_on() {
                    self.budget.sweeps -= 1;
                }
                self.order_hears(None, orchestrated::Input::Sweep, scenario);
            }
            Step::Cancel => {
                self.budget.cancels -= 1;
                let cancel = orchestrated::Input::AskedToCancel(CancelReason::Customer);
                self.order_hears(None, cancel, scenario);
            }
        }
    }
}
