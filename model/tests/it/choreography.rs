//! The choreography, searched exhaustively.

use model::{
    Terms, Without,
    choreography::{Budget, Scenario},
};
use stateright::{Checker, HasDiscoveries, Model};

const CALM: Budget = Budget {
    repeats: 0,
    cancels: 0,
    deadlines: 0,
    sweeps: 0,
    card_trouble: 0,
    settlements: 0,
};

fn scenario(card: bool, funds: bool, in_stock: bool, budget: Budget) -> Scenario {
    Scenario {
        terms: Terms {
            card,
            funds,
            in_stock,
        },
        budget,
        without: Without::Nothing,
    }
}

/// Returns ways to pay, with money and goods, and as much trouble as can be searched in a minute. With
/// `HOLDFAST_MODEL=deep` there is more of it, which takes ten.
fn scenarios() -> Vec<(&'static str, Scenario)> {
    let deep = std::env::var("HOLDFAST_MODEL").is_ok_and(|depth| depth == "deep");
    let trouble = Budget {
        repeats: 2,
        cancels: 1,
        deadlines: 1,
        sweeps: u8::from(deep),
        ..CALM
    };
    let card = Budget {
        repeats: 1,
        card_trouble: 2,
        ..trouble
    };
    let settled = Budget {
        repeats: 1,
        deadlines: 0,
        settlements: if deep { 2 } else { 1 },
        ..trouble
    };
    let card_settled = Budget {
        card_trouble: 1,
        settlements: 1,
        ..settled
    };
    vec![
        ("wallet", scenario(false, true, true, trouble)),
        (
            "wallet, out of stock",
            scenario(false, true, false, trouble),
        ),
        (
            "wallet, too little in it",
            scenario(false, false, true, trouble),
        ),
        ("card", scenario(true, false, true, card)),
        ("card, out of stock", scenario(true, false, false, card)),
        (
            "wallet, asked again",
            scenario(
                false,
                true,
                true,
                Budget {
                    repeats: 1,
                    sweeps: 2,
                    ..trouble
                },
            ),
        ),
        (
            "card, asked again",
            scenario(
                true,
                false,
                true,
                Budget {
                    repeats: 0,
                    sweeps: 2,
                    ..card
                },
            ),
        ),
        (
            "wallet, settled by an operator",
            scenario(false, true, true, settled),
        ),
        (
            "card, settled by an operator",
            scenario(true, false, true, card_settled),
        ),
    ]
}

/// Returns whether a property is an example to be found. The others are laws.
fn is_example(property: &str) -> bool {
    property.starts_with("an order is")
}

/// Every interleaving of everything that may happen ends at rest, with money and stock where they belong.
#[test]
fn every_interleaving_comes_to_rest() {
    let mut total = 0;
    for (name, scenario) in scenarios() {
        let terms = scenario.terms;
        let can_confirm = terms.in_stock && (terms.card || terms.funds);
        let checker = scenario.checker().threads(2).spawn_bfs().join();
        println!(
            "model: {name}: {} states, {} of them distinct, depth {}",
            checker.state_count(),
            checker.unique_state_count(),
            checker.max_depth()
        );
        let discoveries = checker.discoveries();
        for (property, path) in &discoveries {
            assert!(is_example(property), "{name}: not true: {property}\n{path}");
        }
        // The search saw both ends, where both are possible.
        assert!(discoveries.contains_key("an order is cancelled"), "{name}");
        assert_eq!(
            discoveries.contains_key("an order is confirmed"),
            can_confirm,
            "{name}"
        );
        total += checker.unique_state_count();
    }
    println!("model: {total} distinct states in all");
}

/// Without any one guard the search finds a failure.
#[test]
fn a_missing_guard_is_found() {
    for without in Without::CHOREOGRAPHY {
        let found = scenarios().into_iter().find_map(|(name, scenario)| {
            let scenario = Scenario {
                without,
                ..scenario
            };
            let checker = scenario
                .checker()
                .threads(2)
                .finish_when(HasDiscoveries::AnyFailures)
                .spawn_bfs()
                .join();
            let failure = checker
                .discoveries()
                .into_iter()
                .find(|(property, _)| !is_example(property));
            failure.map(|(property, path)| {
                (
                    name,
                    property,
                    path.into_actions().len(),
                    checker.unique_state_count(),
                )
            })
        });
        let (name, property, steps, states) =
            found.unwrap_or_else(|| panic!("without {without:?} nothing goes wrong"));
        println!(
            "model: without {without:?} ({name}): after {steps} steps not true: {property} ({states} states)"
        );
    }
}
