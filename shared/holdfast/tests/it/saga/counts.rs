//! Counts and lists of sagas.

use holdfast::saga::{Counts, Direction, Filter, counts, list};
use uuid::Uuid;

use super::{
    definitions::start,
    fixture::{Program, dispatch, does, refuses},
};

impl Program {
    async fn listed(&self, filter: &Filter) -> Vec<Uuid> {
        let mut conn = self.pool.acquire().await.expect("a connection");
        let sagas = list(&mut conn, filter).await.expect("they can be listed");
        sagas.into_iter().map(|saga| saga.id).collect()
    }
}

#[tokio::test]
async fn counts_are_by_phase_with_the_greatest_age() {
    let program = Program::new().await;
    let count = async || counts(&program.pool).await.expect("they can be counted");
    assert_eq!(count().await, Counts::default());
    let completed = program.started(&["hotel", "car", "ticket", "mail"]).await;
    program
        .execute(
            "update saga set created_at = created_at - interval '1 year' where id = $1",
            completed,
        )
        .await;
    assert_eq!(count().await, Counts::default(), "ended sagas do not count");

    for _ in 0..3 {
        program.started(&[]).await;
    }
    let compensating = program.started(&["hotel"]).await;
    program
        .hears(compensating, refuses("car", Direction::Do))
        .await;
    program.stuck().await;
    let stuck = program.stuck().await;
    let broken = program.started(&[]).await;
    program
        .execute("update saga set data = '0' where id = $1", broken)
        .await;
    program.hears(broken, does("hotel", Direction::Do)).await;
    program
        .execute(
            "update saga set created_at = created_at - interval '1 hour' where id = $1",
            stuck,
        )
        .await;

    let counts = count().await;
    assert_eq!(
        (
            counts.running,
            counts.compensating,
            counts.stuck,
            counts.broken
        ),
        (3, 1, 2, 1)
    );
    assert!(
        (3600.0..3700.0).contains(&counts.oldest_seconds),
        "{counts:?}"
    );
    program.is_consistent().await;
}

#[tokio::test]
async fn lists_come_in_pages_newest_first() {
    let program = Program::new().await;
    // Sagas that start in one transaction have the same start time.
    let mut expected: Vec<Uuid> = Vec::new();
    for _ in 0..3 {
        let mut together: Vec<Uuid> = (0..3)
            .map(|_| Uuid::new_v5(&Uuid::now_v7(), b"book_trip"))
            .collect();
        program.start(&together).await;
        together.sort_unstable();
        expected.extend(together);
    }
    expected.reverse();
    for size in [1, 2, 4, 9, 100] {
        let mut seen: Vec<Uuid> = Vec::new();
        loop {
            let page = program
                .listed(&Filter {
                    before: seen.last().copied(),
                    limit: size,
                    ..Filter::default()
                })
                .await;
            assert!(i64::try_from(page.len()).is_ok_and(|len| len <= size));
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, expected, "in pages of {size}");
    }
    program.is_consistent().await;
}

#[tokio::test]
async fn lists_are_filtered_by_phase_and_subject() {
    let program = Program::new().await;
    let (running, stuck) = (program.started(&[]).await, program.stuck().await);
    let refund = Uuid::now_v7();
    let mut tx = program.begin().await;
    let mut about_the_same = start(refund, "refund_trip", "Lisbon");
    about_the_same.subject = format!("trip {stuck}");
    program
        .executor
        .start(&mut tx, &[about_the_same], &mut dispatch)
        .await
        .expect("it starts");
    tx.commit().await.expect("a commit");

    let of = |phases: &[&str], subject: Option<Uuid>| Filter {
        phases: (!phases.is_empty())
            .then(|| phases.iter().map(|phase| (*phase).to_owned()).collect()),
        subject: subject.map(|id| format!("trip {id}")),
        before: None,
        limit: 10,
    };
    assert_eq!(
        program.listed(&of(&[], None)).await,
        [refund, stuck, running]
    );
    assert_eq!(
        program.listed(&of(&["stuck", "broken"], None)).await,
        [stuck]
    );
    assert_eq!(
        program.listed(&of(&["running"], None)).await,
        [refund, running]
    );
    assert_eq!(program.listed(&of(&[], Some(stuck))).await, [refund, stuck]);
    assert_eq!(
        program.listed(&of(&["running"], Some(stuck))).await,
        [refund]
    );
    assert!(program.listed(&of(&["completed"], None)).await.is_empty());
    let behind = Filter {
        before: Some(refund),
        ..of(&["running"], None)
    };
    assert_eq!(program.listed(&behind).await, [running]);
    program.is_consistent().await;
}
