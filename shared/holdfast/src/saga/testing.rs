//! Given and expect: tests of a saga's definition without a broker, a database or a clock.
//!
//! ```
//! # use std::time::Duration;
//! # use holdfast::saga::{Definition, Retry, Step, View, End, testing::given};
//! # #[derive(Clone, Debug, PartialEq)] pub struct Order { id: u32 }
//! # #[derive(Clone, Debug, PartialEq)] pub enum Command { Charge(u32), Refund(u32), Confirm(u32) }
//! # const RETRY: Retry =
//! #     Retry { timeout: Duration::from_secs(5), longest: Duration::from_secs(60), attempts: Some(3) };
//! # const FOR_EVER: Retry = Retry { attempts: None, ..RETRY };
//! # static PLACE: Definition<Order, Command> = Definition { name: "place", version: 1, steps: &[
//! #     Step { name: "charge", action: Some(|v: &View<'_, Order>| Command::Charge(v.data.id)),
//! #            compensation: Some(|v: &View<'_, Order>| Command::Refund(v.data.id)), settlement: None,
//! #            retry: RETRY, undo_retry: RETRY, pivot: false },
//! #     Step { name: "confirm", action: Some(|v: &View<'_, Order>| Command::Confirm(v.data.id)), compensation: None,
//! #            settlement: None, retry: FOR_EVER, undo_retry: FOR_EVER, pivot: true },
//! # ] };
//! given(&PLACE, Order { id: 7 })
//!     .expect_do("charge", &Command::Charge(7))
//!     .does("payment.completed")
//!     .expect_do("confirm", &Command::Confirm(7))
//!     .refuses("order.cancelled", "customer")
//!     .expect_undo("charge", &Command::Refund(7))
//!     .does("payment.refunded")
//!     .expect_end(End::Compensated);
//! ```

use std::fmt::Debug;

use super::{
    definition::{Definition, View},
    plan::Plan,
    saved::replay,
    state::{Action, Answer, By, Direction, End, Input, Outcome, Phase, State},
    transition::{Effect, transition},
};

/// A saga that has started. Every method also checks that the log leads to the state.
#[derive(Debug)]
pub struct Given<D: 'static, C: 'static> {
    definition: &'static Definition<D, C>,
    plan: Plan,
    data: D,
    state: State,
    log: Vec<Input>,
    effect: Option<Effect>,
}

/// Starts a saga. Panics if the definition is invalid.
pub fn given<D, C>(definition: &'static Definition<D, C>, data: D) -> Given<D, C> {
    definition.check().expect("a valid definition");
    let plan = definition.plan();
    let given = Given {
        definition,
        state: State::new(&plan),
        plan,
        data,
        log: Vec::new(),
        effect: None,
    };
    given.hears(Input::Start)
}

impl<D, C> Given<D, C> {
    /// Applies any input. Panics if it is an operator's action on a saga that is not stuck.
    #[must_use]
    pub fn hears(mut self, input: Input) -> Self {
        let decision = transition(&self.plan, &self.state, &input)
            .unwrap_or_else(|refused| panic!("{input:?}: {refused}"));
        if decision.state != self.state || decision.effect.is_some() {
            self.log.push(input);
        }
        self.state = decision.state;
        self.effect = decision.effect;
        assert_eq!(
            replay(&self.plan, &self.log).as_ref(),
            Ok(&self.state),
            "the log leads elsewhere"
        );
        self
    }

    fn replies(self, outcome: Outcome, answer: Answer) -> Self {
        let (step, direction) = (self.state.step, self.state.direction);
        self.hears(Input::Reply {
            step,
            direction,
            outcome,
            answer,
        })
    }

    /// Applies a reply of the current step: its command was carried out.
    #[must_use]
    pub fn does(self, kind: &str) -> Self {
        self.replies(Outcome::Done, Answer::new(kind))
    }

    /// Applies a refusal by the current step.
    #[must_use]
    pub fn refuses(self, kind: &str, why: &str) -> Self {
        self.replies(Outcome::Refused, Answer::new(kind).because(why))
    }

    /// Applies a reply of any step: late, repeated or out of order.
    #[must_use]
    pub fn replies_late(
        self,
        step: &str,
        direction: Direction,
        outcome: Outcome,
        kind: &str,
    ) -> Self {
        let step = self
            .plan
            .step(step)
            .unwrap_or_else(|| panic!("there is no step {step}"));
        self.hears(Input::Reply {
            step,
            direction,
            outcome,
            answer: Answer::new(kind),
        })
    }

    /// Applies the timeout of the current attempt.
    #[must_use]
    pub fn times_out(self) -> Self {
        let State {
            step,
            direction,
            attempt,
            ..
        } = self.state;
        self.hears(Input::TimedOut {
            step,
            direction,
            attempt,
        })
    }

    /// Applies timeouts until the current step is out of attempts. Panics if it has no limit.
    #[must_use]
    pub fn gives_up(mut self) -> Self {
        let (step, direction) = (self.state.step, self.state.direction);
        for _ in 0..1000 {
            self = self.times_out();
            if (self.state.step, self.state.direction) != (step, direction)
                || self.state.phase != Phase::Active
            {
                return self;
            }
        }
        panic!("it is asked for ever: {:?}", self.state);
    }

    /// Applies a cancel.
    #[must_use]
    pub fn is_cancelled(self, reason: &str) -> Self {
        self.hears(Input::Cancel {
            reason: reason.to_owned(),
        })
    }

    /// Applies an operator's action.
    #[must_use]
    pub fn operator(self, action: Action, operator: &str, note: &str) -> Self {
        self.hears(Input::Operator {
            action,
            by: By {
                operator: operator.to_owned(),
                note: note.to_owned(),
            },
        })
    }

    /// Returns the command that the last input led to, if any, with its step and direction.
    pub fn sent(&self) -> Option<(&'static str, Direction, C)> {
        let Some(Effect::Send {
            step, direction, ..
        }) = self.effect
        else {
            return None;
        };
        let step = &self.definition.steps[step];
        let payload = step.payload(direction)?;
        let view = View {
            data: &self.data,
            plan: &self.plan,
            state: &self.state,
        };
        Some((step.name, direction, payload(&view)))
    }

    /// Expects that the last input had no effect.
    #[must_use]
    pub fn expect_nothing(self) -> Self {
        assert_eq!(self.effect, None, "{:?}", self.state);
        self
    }

    /// Expects that the last input made the saga stuck.
    #[must_use]
    pub fn expect_stuck(self) -> Self {
        assert_eq!(
            (self.effect, self.state.phase),
            (Some(Effect::Stuck), Phase::Stuck)
        );
        self
    }

    /// Expects that the last input ended the saga in this way.
    pub fn expect_end(self, end: End) {
        assert_eq!(self.effect, Some(Effect::End(end)), "{:?}", self.state);
        assert_eq!(self.state.phase, Phase::Ended(end));
    }

    /// Returns the current step and the direction of its command; `None` once the saga has ended.
    pub fn in_hand(&self) -> Option<(&'static str, Direction)> {
        let step = self.plan.steps.get(self.state.step)?;
        (!self.state.is_ended()).then_some((step.name, self.state.direction))
    }

    /// Returns the saga's state.
    pub fn state(&self) -> &State {
        &self.state
    }
}

impl<D, C: PartialEq + Debug> Given<D, C> {
    fn expect_sent(self, step: &'static str, direction: Direction, command: &C) -> Self {
        match self.sent() {
            Some((is, is_direction, says)) => {
                assert_eq!((is, is_direction, &says), (step, direction, command));
            }
            None => panic!("nothing was sent, but {:?}: {:?}", self.effect, self.state),
        }
        self
    }

    /// Expects that the step was sent its action, with this command.
    #[must_use]
    pub fn expect_do(self, step: &'static str, command: &C) -> Self {
        self.expect_sent(step, Direction::Do, command)
    }

    /// Expects that the step was sent its compensation, with this command.
    #[must_use]
    pub fn expect_undo(self, step: &'static str, command: &C) -> Self {
        self.expect_sent(step, Direction::Undo, command)
    }

    /// Expects that the step was sent its settlement, with this command.
    #[must_use]
    pub fn expect_settle(self, step: &'static str, command: &C) -> Self {
        self.expect_sent(step, Direction::Settle, command)
    }
}
