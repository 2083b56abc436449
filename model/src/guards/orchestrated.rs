//! The guards that only orchestration has.

use holdfast::saga::{Answer, Direction, Input, Outcome, Plan, State};
use order::domain::{
    Order, State as OrderState,
    orchestrated::{self, Decision, Illegal},
};

use super::Without;

impl Without {
    pub(in super::super) fn decide_orchestrated(
        self,
        order: Order,
        was_confirmed: bool,
        input: orchestrated::Input,
    ) -> Result<Decision, Illegal> {
        let is_over = matches!(
            order.state,
            OrderState::Cancelling(_) | OrderState::Cancelled(_)
        );
        match (self, input) {
            (Self::Arbitration, orchestrated::Input::Confirm) if is_over && !was_confirmed => {
                let order = Order {
                    state: OrderState::Pending,
                    ..order
                };
                orchestrated::decide(order, was_confirmed, input)
            }
            (Self::WasConfirmed, _) => {
                orchestrated::decide(order, !is_over && was_confirmed, input)
            }
            _ => orchestrated::decide(order, was_confirmed, input),
        }
    }

    /// Returns a saga's plan, without this guard.
    pub(in super::super) fn plan(self, mut plan: Plan) -> Plan {
        if self == Self::Pivot
            && let Some(pivot) = plan.pivot
            && plan.steps[pivot].action
        {
            plan.steps[pivot].attempts = Some(1);
            plan.pivot = None;
        }
        plan
    }

    /// Returns the input that a saga takes for `input`, without this guard.
    pub(in super::super) fn saga_hears(self, plan: &Plan, state: &State, input: Input) -> Input {
        match (self, input) {
            (
                Self::UnknownOutcome,
                Input::TimedOut {
                    step,
                    direction: Direction::Do,
                    attempt,
                },
            ) if state.cause.is_none() && plan.steps[step].attempts == Some(attempt) => {
                Input::Reply {
                    step,
                    direction: Direction::Do,
                    outcome: Outcome::Refused,
                    answer: Answer::new(""),
                }
            }
            (
                Self::AnswersByKey,
                Input::Reply {
                    step,
                    outcome,
                    answer,
                    ..
                },
            ) => Input::Reply {
                step,
                direction: state.direction,
                outcome,
                answer,
            },
            (_, input) => input,
        }
    }
}
