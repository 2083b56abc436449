//! The pace of a relay: the next round comes at once after a full batch, soon after an unknown outcome, and else when
//! the relay is woken or polls.

use super::*;

/// Returns the configuration of a relay that does not poll within the test.
fn seldom() -> Config {
    Config {
        batch: 2,
        poll: Duration::from_secs(3600),
        ..config()
    }
}

#[tokio::test]
async fn full_batch_is_followed_by_the_next_at_once() {
    let (_, pool) = database("outbox").await;
    let messages: Vec<Message> = (0..7).map(|n| message(&format!("{n}"), "work")).collect();
    enqueue(&pool, &messages).await;
    // The relay looks once at its start, and is not woken.
    let scripted = Scripted::new([]);
    scripted
        .relay_with(&pool, &Waker::default(), seldom(), wait_for_empty(&pool))
        .await;
    assert_eq!(scripted.script().published.len(), messages.len());
}

#[tokio::test]
async fn unknown_outcome_is_followed_by_another_round() {
    let (_, pool) = database("outbox").await;
    let one = message("one", "work");
    let scripted = Scripted::new([(&one, vec![Outcome::Unknown; 2])]);
    enqueue(&pool, std::slice::from_ref(&one)).await;
    scripted
        .relay_with(&pool, &Waker::default(), seldom(), wait_for_empty(&pool))
        .await;
    assert_eq!(scripted.published(&one), 3);
}

#[tokio::test]
async fn relay_without_rows_rests_until_it_is_woken() {
    let (_, pool) = database("outbox").await;
    let (scripted, waker) = (Scripted::new([]), Waker::default());
    let woken = async {
        for n in 0..5 {
            enqueue(&pool, &[message(&format!("{n}"), "work")]).await;
            waker.wake();
            wait_for_empty(&pool).await;
        }
    };
    scripted.relay_with(&pool, &waker, seldom(), woken).await;
    // One round at the start, one for each message, and up to two at the end: a relay that does not wait has hundreds.
    let rounds = scripted.script().rounds;
    assert!((5..=8).contains(&rounds), "{rounds} rounds");
}
