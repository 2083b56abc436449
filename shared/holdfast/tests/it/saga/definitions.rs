//! Sagas that book a trip.

use std::time::Duration;

use holdfast::saga::{Definition, Retry, Start, Step, View};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The data that a saga is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trip {
    pub(crate) city: String,
}

/// A command of any step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) says: String,
    pub(crate) city: String,
    /// The step that failed, the cause and the reply, once the trip is called off.
    pub(crate) because: Option<String>,
    /// The id and the note of the operator who has the step written off.
    pub(crate) operator: Option<(String, String)>,
}

fn command(says: &str, saga: &View<'_, Trip>) -> Command {
    let because = saga.cause().map(|(step, cause)| {
        let answer = saga
            .answer(step)
            .map(ToString::to_string)
            .unwrap_or_default();
        format!("{step}: {cause}: {answer}")
    });
    Command {
        says: says.to_owned(),
        city: saga.data.city.clone(),
        because,
        operator: saga
            .operator()
            .map(|by| (by.operator.clone(), by.note.clone())),
    }
}

/// Waits of 10 s, 20 s, 40 s, 60 s, 60 s, ...
const FOR_EVER: Retry = Retry {
    timeout: Duration::from_secs(10),
    longest: Duration::from_secs(60),
    attempts: None,
};

const THREE_TIMES: Retry = Retry {
    attempts: Some(3),
    ..FOR_EVER
};

const TWICE: Retry = Retry {
    attempts: Some(2),
    ..FOR_EVER
};

const NOTHING: Step<Trip, Command> = Step {
    name: "nothing",
    action: None,
    compensation: None,
    settlement: None,
    retry: FOR_EVER,
    undo_retry: FOR_EVER,
    pivot: false,
};

/// A saga that books a trip.
pub(crate) static BOOK: Definition<Trip, Command> = Definition {
    name: "book_trip",
    version: 1,
    steps: &[
        Step {
            name: "tell_traveller",
            compensation: Some(|saga: &View<'_, Trip>| command("it is off", saga)),
            ..NOTHING
        },
        Step {
            name: "hotel",
            action: Some(|saga: &View<'_, Trip>| command("book a room", saga)),
            compensation: Some(|saga: &View<'_, Trip>| command("cancel the room", saga)),
            settlement: Some(|saga: &View<'_, Trip>| command("write the room off", saga)),
            retry: THREE_TIMES,
            undo_retry: TWICE,
            ..NOTHING
        },
        Step {
            name: "car",
            action: Some(|saga: &View<'_, Trip>| command("hire a car", saga)),
            compensation: Some(|saga: &View<'_, Trip>| command("return the car", saga)),
            retry: TWICE,
            undo_retry: TWICE,
            ..NOTHING
        },
        Step {
            name: "ticket",
            action: Some(|saga: &View<'_, Trip>| command("buy a ticket", saga)),
            pivot: true,
            ..NOTHING
        },
        Step {
            name: "mail",
            action: Some(|saga: &View<'_, Trip>| command("send the tickets", saga)),
            ..NOTHING
        },
    ],
};

/// Version 2 of the booking: without a car, and with insurance.
pub(crate) static BOOK_2: Definition<Trip, Command> = Definition {
    name: "book_trip",
    version: 2,
    steps: &[
        Step {
            name: "hotel",
            action: Some(|saga: &View<'_, Trip>| command("book a suite", saga)),
            compensation: Some(|saga: &View<'_, Trip>| command("cancel the suite", saga)),
            ..NOTHING
        },
        Step {
            name: "ticket",
            action: Some(|saga: &View<'_, Trip>| command("buy a ticket", saga)),
            pivot: true,
            ..NOTHING
        },
        Step {
            name: "insurance",
            action: Some(|saga: &View<'_, Trip>| command("insure", saga)),
            ..NOTHING
        },
    ],
};

/// A saga that refunds a booked trip. It only goes forward, by steps that may fail.
pub(crate) static REFUND: Definition<Trip, Command> = Definition {
    name: "refund_trip",
    version: 1,
    steps: &[
        Step {
            name: "called_off",
            pivot: true,
            ..NOTHING
        },
        Step {
            name: "hotel",
            action: Some(|saga: &View<'_, Trip>| command("refund the room", saga)),
            settlement: Some(|saga: &View<'_, Trip>| command("write the room off", saga)),
            retry: TWICE,
            undo_retry: TWICE,
            ..NOTHING
        },
        Step {
            name: "ticket",
            action: Some(|saga: &View<'_, Trip>| command("refund the ticket", saga)),
            settlement: Some(|saga: &View<'_, Trip>| command("write the ticket off", saga)),
            retry: TWICE,
            undo_retry: TWICE,
            ..NOTHING
        },
        Step {
            name: "mail",
            action: Some(|saga: &View<'_, Trip>| command("say that it is refunded", saga)),
            ..NOTHING
        },
    ],
};

pub(crate) fn start(id: Uuid, definition: &'static str, city: &str) -> Start<Trip> {
    Start {
        id,
        definition,
        subject: format!("trip {id}"),
        data: Trip {
            city: city.to_owned(),
        },
        traceparent: None,
        tracestate: None,
    }
}
