//! Orchestration, searched exhaustively.

use std::collections::BTreeSet;

use model::{
    Terms, Without,
    orchestration::{Budget, Scenario},
    search::{Until, search},
};
use stateright::{Checker, Model};

const CALM: Budget = Budget {
    repeats: 0,
    losses: 0,
    timeouts: 0,
    cancels: 1,
    sweeps: 0,
    card_trouble: 0,
    decisions: 0,
};

const WALLET: Terms = Terms {
    card: false,
    funds: true,
    in_stock: true,
};

const CARD: Terms = Terms {
    card: true,
    funds: false,
    in_stock: true,
};

/// The attempts after which a saga gives up.
const ONCE: u32 = 1;
const TWICE: u32 = 2;

struct Case {
    name: &'static str,
    terms: Terms,
    budget: Budget,
    attempts: u32,
}

fn case(name: &'static str, terms: Terms, attempts: u32, budget: Budget) -> Case {
    Case {
        name,
        terms,
        budget,
        attempts,
    }
}

impl Case {
    fn scenario(&self, without: Without) -> Scenario {
        Scenario::new(self.terms, self.budget, self.attempts, without)
    }
}

/// Returns 0 for as much trouble as can be searched in half a minute, or, with `HOLDFAST_MODEL=deep`, 1 for more of it,
/// which takes ten.
fn more() -> u8 {
    u8::from(std::env::var("HOLDFAST_MODEL").is_ok_and(|depth| depth == "deep"))
}

fn by_wallet() -> Vec<Case> {
    let trouble = |repeats, losses, timeouts| Budget {
        repeats,
        losses,
        timeouts,
        ..CALM
    };
    let out_of_stock = Terms {
        in_stock: false,
        ..WALLET
    };
    let too_little = Terms {
        funds: false,
        ..WALLET
    };
    let sweeps = |budget| Budget {
        sweeps: 1 + more(),
        ..budget
    };
    let operator = |budget| Budget {
        decisions: 1 + more(),
        ..budget
    };
    vec![
        case("wallet", WALLET, TWICE, trouble(2, 1, 1 + more())),
        case("wallet, given up", WALLET, ONCE, trouble(1 + more(), 1, 2)),
        case(
            "wallet, messages lost",
            WALLET,
            TWICE,
            trouble(1, 2 + more(), 1),
        ),
        case(
            "wallet, out of stock",
            out_of_stock,
            ONCE,
            trouble(2, 1 + more(), 2),
        ),
        case(
            "wallet, too little in it",
            too_little,
            ONCE,
            trouble(2 + more(), 2, 2),
        ),
        case(
            "wallet, its order asks again",
            WALLET,
            TWICE,
            sweeps(trouble(1, 1, 1)),
        ),
        case(
            "wallet, and an operator",
            WALLET,
            ONCE,
            operator(trouble(0, 2, 2)),
        ),
    ]
}

fn by_card() -> Vec<Case> {
    let trouble = |repeats, losses, card_trouble| Budget {
        repeats,
        losses,
        timeouts: 1 + more(),
        card_trouble,
        ..CALM
    };
    let out_of_stock = Terms {
        in_stock: false,
        ..CARD
    };
    let operator = |budget| Budget {
        decisions: 1,
        ..budget
    };
    vec![
        case("card", CARD, TWICE, trouble(1, 1, 2)),
        case("card, given up", CARD, ONCE, trouble(1, 1, 1)),
        case(
            "card, out of stock",
            out_of_stock,
            ONCE,
            trouble(1, 1, 1 + more()),
        ),
        case(
            "card, and an operator",
            CARD,
            ONCE,
            operator(trouble(0, 2, 1)),
        ),
    ]
}

/// Checks that every interleaving of everything that may happen ends at rest, with money and stock where they belong.
/// Returns the size of the search.
fn ends(case: &Case) -> String {
    let Case {
        name,
        terms,
        budget,
        attempts,
    } = *case;
    let found = search(&case.scenario(Without::Nothing), Until::All);
    if let Some((property, way)) = found.failures.first_key_value() {
        let way: Vec<String> = way.iter().map(|step| format!("{step:?}")).collect();
        panic!("{name}: not true: {property}, after\n{}", way.join("\n"));
    }
    // The search saw what there is to see.
    let mut expected = BTreeSet::from(["an order is cancelled", "a saga is compensated"]);
    if terms.in_stock && (terms.card || terms.funds) {
        expected.extend(["an order is confirmed", "both sagas are at work"]);
    }
    if u32::from(budget.losses + budget.timeouts) >= attempts {
        expected.insert("a saga is stuck");
    }
    let seen: BTreeSet<&str> = found.examples.into_keys().collect();
    assert_eq!(seen, expected, "{name}");
    format!("{name}: {} states, {} steps", found.states, found.steps)
}

#[test]
fn every_interleaving_of_an_order_paid_from_the_wallet_ends() {
    for case in by_wallet() {
        println!("model: {}", ends(&case));
    }
}

#[test]
fn every_interleaving_of_an_order_paid_by_card_ends() {
    for case in by_card() {
        println!("model: {}", ends(&case));
    }
}

/// This search and stateright's see the same states.
#[test]
fn stateright_sees_as_many_states() {
    let case = case("card", CARD, ONCE, CALM);
    let scenario = case.scenario(Without::Nothing);
    let found = search(&scenario, Until::All);
    let checker = scenario.checker().spawn_bfs().join();
    assert_eq!(
        (found.states, found.steps + 1),
        (checker.unique_state_count(), checker.state_count())
    );
}

/// Without any one guard the search finds a failure.
#[test]
fn a_missing_guard_is_found() {
    for without in Without::ORCHESTRATION {
        let cases = by_card().into_iter().rev().chain(by_wallet());
        let found = cases.into_iter().find_map(|case| {
            let found = search(&case.scenario(without), Until::Failure);
            let (property, way) = found.failures.into_iter().next()?;
            Some((case.name, property, way.len(), found.states))
        });
        let (name, property, steps, states) =
            found.unwrap_or_else(|| panic!("without {without:?} nothing goes wrong"));
        println!(
            "model: without {without:?} ({name}): after {steps} steps not true: {property} ({states} states)"
        );
    }
}
