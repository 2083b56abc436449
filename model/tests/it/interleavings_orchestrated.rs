//! Random walks through orchestration, with far more trouble than can be searched exhaustively.

use model::{
    Terms, Without,
    orchestration::{Budget, Scenario, Step, World},
};
use proptest::prelude::*;
use stateright::{Expectation, Model};

/// Many of everything: each message of an order may be delivered, and be lost, a dozen times.
const PLENTY: u8 = 40;

/// A bound above the number of steps that have to happen, once nothing else goes wrong.
const LONG: usize = 1000;

#[derive(Clone, Debug)]
struct Case {
    terms: Terms,
    budget: Budget,
    attempts: u32,
    /// The choices among the steps that may happen next.
    choices: Vec<u16>,
}

fn cases() -> impl Strategy<Value = Case> {
    let terms =
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(card, funds, in_stock)| Terms {
            card,
            funds: funds || card,
            in_stock,
        });
    let some = || 0..PLENTY;
    let budget = (some(), some(), some(), 0..3_u8, some(), some(), some()).prop_map(
        |(repeats, losses, timeouts, cancels, sweeps, card_trouble, decisions)| Budget {
            repeats,
            losses,
            timeouts,
            cancels,
            sweeps,
            card_trouble,
            decisions,
        },
    );
    let choices = prop::collection::vec(any::<u16>(), 0..400);
    (terms, budget, 1..5_u32, choices).prop_map(|(terms, budget, attempts, choices)| Case {
        terms,
        budget,
        attempts,
        choices,
    })
}

/// Walks by the choices. When they are used up, takes only the steps that have to happen, until there are none.
fn walk(case: &Case) -> Result<(World, Vec<Step>), TestCaseError> {
    let scenario = Scenario::new(case.terms, case.budget, case.attempts, Without::Nothing);
    let laws = scenario.properties();
    let mut world = scenario.init_states().remove(0);
    let mut steps = Vec::new();
    let mut choices = case.choices.iter();
    loop {
        for law in &laws {
            let holds = (law.condition)(&scenario, &world);
            let is_law = law.expectation == Expectation::Always;
            prop_assert!(
                holds || !is_law,
                "not true: {}\n{world:?}\nafter {steps:#?}",
                law.name
            );
        }
        let chosen = match choices.next() {
            Some(choice) => {
                let mut actions = Vec::new();
                scenario.actions(&world, &mut actions);
                let count = actions.len().max(1);
                actions.get(usize::from(*choice) % count).copied()
            }
            None => scenario.musts(&world).first().copied(),
        };
        let Some(step) = chosen else {
            return Ok((world, steps));
        };
        world = (scenario.next_state(&world, step)).expect("every action leads somewhere");
        steps.push(step);
        prop_assert!(
            steps.len() < LONG,
            "it goes on and on: {world:?}\nafter {steps:#?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, max_shrink_iters: 50_000, ..ProptestConfig::default() })]

    /// However the messages of an order are repeated, lost, delayed and reordered, and whatever operators do, it ends
    /// at rest, and all books agree: that is one of the laws.
    #[test]
    fn any_interleaving_of_an_orchestrated_order_ends_at_rest(case in cases()) {
        let (world, _) = walk(&case)?;
        prop_assert!(world.order.is_at_rest() && !world.sagas.go_on());
    }

    /// Without cancels, and if no saga gives up, the end, the money and the stock are the same as if every message had
    /// arrived once and in order.
    #[test]
    fn repeats_and_losses_do_not_change_the_end(mut case in cases()) {
        case.attempts = u32::MAX;
        case.terms.card = false;
        // Fewer than the attempts that the definitions allow for one step.
        case.budget = Budget { cancels: 0, losses: 4, timeouts: 4, ..case.budget };
        let (world, steps) = walk(&case)?;
        let (expected, _) = walk(&Case { choices: Vec::new(), ..case })?;
        let end = |world: &World| (world.order.state, world.told, world.books.clone());
        prop_assert_eq!(end(&world), end(&expected), "after {:#?}", steps);
    }
}
