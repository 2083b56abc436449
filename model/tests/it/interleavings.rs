//! Random walks through the choreography, with far more trouble than can be searched exhaustively.

use model::{
    Ask, Terms, Without,
    choreography::{Budget, Scenario, Step, World},
};
use proptest::prelude::*;
use stateright::Model;

/// Many repeats: each message of an order may be delivered a dozen times.
const PLENTY: u8 = 40;

#[derive(Clone, Debug)]
struct Case {
    scenario: Scenario,
    /// The choices among the steps that may happen next.
    choices: Vec<u16>,
}

fn cases() -> impl Strategy<Value = Case> {
    let scenario = (
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        0..2_u8,
        0..2_u8,
        0..4_u8,
    )
        .prop_map(
            |(card, funds, in_stock, cancels, deadlines, sweeps)| Scenario {
                terms: Terms {
                    card,
                    funds: funds || card,
                    in_stock,
                },
                budget: Budget {
                    repeats: PLENTY,
                    cancels,
                    deadlines,
                    sweeps,
                    card_trouble: 10,
                    settlements: 0,
                },
                without: Without::Nothing,
            },
        );
    (scenario, prop::collection::vec(any::<u16>(), 0..400))
        .prop_map(|(scenario, choices)| Case { scenario, choices })
}

/// Walks by the choices. When they are used up, takes only the steps that have to happen.
fn walk(case: &Case) -> (World, Vec<Step>) {
    let scenario = &case.scenario;
    let mut world = scenario.init_states().remove(0);
    let mut steps = Vec::new();
    let mut choices = case.choices.iter();
    loop {
        let mut actions = Vec::new();
        match choices.next() {
            Some(choice) => {
                scenario.actions(&world, &mut actions);
                if actions.is_empty() {
                    return (world, steps);
                }
                let chosen = actions.swap_remove(usize::from(*choice) % actions.len());
                actions = vec![chosen];
            }
            None => actions.extend(world.musts()),
        }
        let Some(step) = actions.first().copied() else {
            return (world, steps);
        };
        world = scenario
            .next_state(&world, step)
            .expect("every action leads somewhere");
        steps.push(step);
        assert!(
            world.refused.is_none(),
            "{:?}\nafter {steps:?}",
            world.refused
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, max_shrink_iters: 50_000, ..ProptestConfig::default() })]

    /// However the messages of an order are repeated, delayed and reordered, it ends at rest, and all books agree.
    #[test]
    fn any_interleaving_ends_at_rest(case in cases()) {
        let (world, steps) = walk(&case);
        prop_assert!(world.musts().is_empty());
        prop_assert!(world.order.is_at_rest(), "{:?}\nafter {:?}", world.order, steps);
        prop_assert!(world.books_agree(case.scenario.terms), "{world:?}\nafter {steps:?}");
    }

    /// Without cancels, the end, the money and the stock are the same as if every message had arrived once and in
    /// order.
    #[test]
    fn repeats_and_reordering_do_not_change_the_end(mut case in cases()) {
        case.scenario.budget = Budget { cancels: 0, deadlines: 0, ..case.scenario.budget };
        let (world, steps) = walk(&case);
        let calm = Case { choices: Vec::new(), ..case.clone() };
        let (mut expected, _) = walk(&calm);
        // The card processor decides by itself: compare with a calm run in which it decided the same.
        if case.scenario.terms.card && world.books.company.charge != expected.books.company.charge {
            let mut calm = case.scenario.init_states().remove(0);
            while let Some(step) = calm.musts().into_iter().rev().find(|step| match step {
                Step::AskCard(Ask::Charge { captures }) => Some(*captures) == world.books.company.charge,
                _ => true,
            }) {
                calm = case.scenario.next_state(&calm, step).expect("every action leads somewhere");
            }
            expected = calm;
        }
        let end = |world: &World| {
            (world.order.state, world.books.clone())
        };
        prop_assert_eq!(end(&world), end(&expected), "after {:?}", steps);
    }
}
