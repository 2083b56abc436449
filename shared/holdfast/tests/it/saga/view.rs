//! The operators' view of sagas.

use holdfast::saga::{Action, Direction, History, Status};
use uuid::Uuid;

use super::{
    definitions::{BOOK_2, Command},
    fixture::{Program, does, refuses},
};

impl Program {
    async fn history(&self, id: Uuid) -> History {
        let mut conn = self.pool.acquire().await.expect("a connection");
        self.executor
            .history(&mut conn, id)
            .await
            .expect("it can be read")
            .expect("it is there")
    }

    /// Sets the time of entry N of a log to N seconds after the beginning of 2026.
    async fn has_a_clock(&self, id: Uuid) {
        self.execute("update saga_log set at = '2026-01-01Z'::timestamptz + make_interval(secs => seq) where saga_id = $1", id)
            .await;
    }
}

/// Returns the commands that a step was sent: `do 2: 1-3 hotel.do` had two attempts, the first at second 1, and a reply
/// at second 3.
fn asks(history: &History, step: &str) -> Vec<String> {
    let step = history
        .steps
        .iter()
        .find(|other| other.name == step)
        .expect("there is such a step");
    let asks = step.asks.iter().map(|ask| {
        let to = ask
            .answered_at
            .map(|at| at.second().to_string())
            .unwrap_or_default();
        let answer = ask.answer.as_deref().unwrap_or_default();
        format!(
            "{} {}: {}-{to} {answer}",
            ask.direction.name(),
            ask.attempts,
            ask.first_at.second()
        )
        .trim_end()
        .to_owned()
    });
    asks.collect()
}

fn statuses(history: &History) -> Vec<&'static str> {
    history
        .steps
        .iter()
        .map(|step| step.status.name())
        .collect()
}

#[tokio::test]
async fn history_shows_a_running_saga() {
    let program = Program::new().await;
    let id = program.started(&[]).await;
    program.times_out(id).await;
    program.hears(id, does("hotel", Direction::Do)).await;
    program.has_a_clock(id).await;

    let history = program.history(id).await;
    let summary = &history.summary;
    assert_eq!(
        (summary.id, &*summary.definition, summary.version),
        (id, "book_trip", 1)
    );
    assert_eq!(
        (&*summary.subject, &*summary.phase),
        (&*format!("trip {id}"), "running")
    );
    assert_eq!(
        (
            summary.step.as_deref(),
            summary.direction.as_deref(),
            summary.attempt
        ),
        (Some("car"), Some("do"), 1)
    );
    assert!(summary.due_at.is_some() && summary.stuck_since.is_none() && summary.error.is_none());
    assert!(summary.created_at <= summary.updated_at);
    assert_eq!(history.data, serde_json::json!({"city": "Lisbon"}));
    assert_eq!(
        statuses(&history),
        ["done", "done", "sent", "waiting", "waiting"]
    );
    assert_eq!(asks(&history, "hotel"), ["do 2: 1-3 hotel.do"]);
    assert_eq!(asks(&history, "car"), ["do 1: 3-"]);
    assert!(asks(&history, "ticket").is_empty() && asks(&history, "tell_traveller").is_empty());
    assert_eq!(
        history.remaining,
        [
            ("car", Direction::Do),
            ("ticket", Direction::Do),
            ("mail", Direction::Do)
        ]
    );
    assert_eq!((history.cause, history.actions.len()), (None, 0));
    let effects: Vec<Option<&str>> = history
        .log
        .iter()
        .map(|entry| entry.effect.as_deref())
        .collect();
    assert_eq!(
        effects,
        [
            Some("send hotel/do, attempt 1"),
            Some("send hotel/do, attempt 2"),
            Some("send car/do, attempt 1")
        ]
    );
    assert_eq!(
        history
            .log
            .iter()
            .map(|entry| entry.seq)
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );

    // The payload is that of the command, however often it is resent.
    let sent = program.sent().await;
    let asked: Vec<&str> = sent.iter().map(|sent| &*sent.asks).collect();
    assert_eq!(asked, ["hotel/do", "car/do"]);
    let payload = |step: usize| {
        serde_json::from_value::<Command>(history.steps[step].asks[0].payload.clone()).ok()
    };
    assert_eq!(payload(1).as_ref(), Some(&sent[0].command));
    assert_eq!(payload(2).as_ref(), Some(&sent[1].command));

    let mut conn = program.pool.acquire().await.expect("a connection");
    let none = program
        .executor
        .history(&mut conn, Uuid::now_v7())
        .await
        .expect("it can be asked");
    assert!(none.is_none());
    drop(conn);
    program.is_consistent().await;
}

#[tokio::test]
async fn history_shows_a_stuck_saga_that_goes_on() {
    let program = Program::new().await;
    let id = program.stuck().await;
    program.has_a_clock(id).await;
    let history = program.history(id).await;
    assert_eq!(history.summary.phase, "stuck");
    assert_eq!(
        history.summary.error.as_deref(),
        Some("refused: hotel.refused (whatever)")
    );
    assert!(history.summary.stuck_since.is_some() && history.summary.due_at.is_none());
    assert_eq!(
        statuses(&history),
        ["done", "done", "refused", "waiting", "waiting"]
    );
    assert_eq!(history.cause, Some(("car", "refused".to_owned())));
    assert_eq!(
        asks(&history, "hotel"),
        ["do 1: 1-2 hotel.do", "undo 1: 3-4 hotel.refused (whatever)"]
    );
    assert_eq!(asks(&history, "car"), ["do 1: 2-3 car.refused (whatever)"]);
    assert_eq!(
        history.remaining,
        [
            ("hotel", Direction::Undo),
            ("tell_traveller", Direction::Undo)
        ]
    );

    program
        .operates(id, Action::Resume)
        .await
        .expect("it is stuck");
    program.times_out(id).await;
    program.times_out(id).await;
    program
        .operates(id, Action::Abandon)
        .await
        .expect("it is stuck");
    program.has_a_clock(id).await;
    let history = program.history(id).await;
    assert_eq!(history.summary.phase, "compensating");
    assert_eq!(
        asks(&history, "hotel"),
        [
            "do 1: 1-2 hotel.do",
            "undo 1: 3-4 hotel.refused (whatever)",
            "undo 2: 5-",
            "settle 1: 8-"
        ]
    );
    let settle = &history.steps[1].asks[3];
    let command: Command = serde_json::from_value(settle.payload.clone()).expect("a command");
    assert_eq!(
        command.operator,
        Some(("olivia".to_owned(), "abandon it".to_owned()))
    );
    let actions: Vec<(&str, Option<&str>, &str, &str)> = history
        .actions
        .iter()
        .map(|action| {
            (
                &*action.action,
                action.step.as_deref(),
                &*action.operator,
                &*action.note,
            )
        })
        .collect();
    assert_eq!(
        actions,
        [
            ("resume", Some("hotel"), "olivia", "resume it"),
            ("abandon", Some("hotel"), "olivia", "abandon it")
        ]
    );

    program.hears(id, does("hotel", Direction::Settle)).await;
    program
        .hears(id, does("tell_traveller", Direction::Undo))
        .await;
    let history = program.history(id).await;
    assert_eq!(history.summary.phase, "abandoned");
    assert_eq!(
        statuses(&history),
        ["undone", "settled", "refused", "waiting", "waiting"]
    );
    assert_eq!(history.remaining, []);
    assert!(
        matches!(&history.steps[1].status, Status::Settled(answer) if answer.kind == "hotel.settle")
    );
    program.is_consistent().await;
}

#[tokio::test]
async fn history_shows_what_remains_to_be_undone_or_written_off() {
    let program = Program::new().await;
    let id = program.started(&["hotel", "car"]).await;
    program.hears(id, refuses("ticket", Direction::Do)).await;
    let history = program.history(id).await;
    assert_eq!(
        history.remaining,
        [
            ("car", Direction::Undo),
            ("hotel", Direction::Undo),
            ("tell_traveller", Direction::Undo)
        ]
    );
    program.hears(id, refuses("car", Direction::Undo)).await;
    program
        .operates(id, Action::Abandon)
        .await
        .expect("it is stuck");
    let history = program.history(id).await;
    assert_eq!(
        history.remaining,
        [
            ("hotel", Direction::Settle),
            ("tell_traveller", Direction::Undo)
        ]
    );

    let id = Uuid::now_v7();
    program.start_as(&[id], "refund_trip").await;
    program.hears(id, refuses("hotel", Direction::Do)).await;
    let history = program.history(id).await;
    assert_eq!(
        history.remaining,
        [
            ("hotel", Direction::Do),
            ("ticket", Direction::Do),
            ("mail", Direction::Do)
        ]
    );
    program
        .operates(id, Action::Abandon)
        .await
        .expect("it is stuck");
    let history = program.history(id).await;
    assert_eq!(
        history.remaining,
        [
            ("hotel", Direction::Settle),
            ("ticket", Direction::Settle),
            ("mail", Direction::Do)
        ]
    );
    program.is_consistent().await;
}

#[tokio::test]
async fn history_of_an_unreadable_saga_shows_its_log_and_error() {
    let program = Program::new().await;
    let newer = program.knowing(&[&BOOK_2]);
    let id = newer.started(&["hotel"]).await;
    // The error is reported before the executor has found the row.
    let why = Some("this program has no definition book_trip of version 2");
    let history = program.history(id).await;
    assert_eq!(
        (&*history.summary.phase, history.summary.error.as_deref()),
        ("running", why)
    );

    program.hears(id, does("ticket", Direction::Do)).await;
    let history = program.history(id).await;
    assert_eq!(
        (&*history.summary.phase, history.summary.error.as_deref()),
        ("broken", why)
    );
    assert_eq!(
        (history.steps.len(), history.remaining.len(), history.cause),
        (0, 0, None)
    );
    assert_eq!(history.log.len(), 2, "it is shown as it is");
    assert_eq!(history.data, serde_json::json!({"city": "Lisbon"}));

    // A program that knows the version can read it.
    let history = newer.history(id).await;
    assert_eq!(statuses(&history), ["done", "sent", "waiting"]);
    assert_eq!(
        history.remaining,
        [("ticket", Direction::Do), ("insurance", Direction::Do)]
    );

    // A log that cannot be read does not hide a state that can.
    newer
        .operates(id, Action::Resume)
        .await
        .expect("this one knows it");
    newer
        .execute("update saga_log set input = '{}' where saga_id = $1", id)
        .await;
    let history = newer.history(id).await;
    assert_eq!(
        (statuses(&history), history.log.len()),
        (vec!["done", "sent", "waiting"], 2)
    );
}
