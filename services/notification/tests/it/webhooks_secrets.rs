//! Webhook secrets: encrypted in the table by keys that can be rotated, also while older replicas store them in plain.

use std::{collections::BTreeSet, path::PathBuf, sync::Mutex};

use contracts::value::OrderId;
use serde_json::json;
use testkit::{Database, eventually};
use uuid::Uuid;

use crate::{
    helpers::{Notification, confirmed, spawn_on},
    receiver::Receiver,
    webhooks::{LOCAL, listening, text},
};

/// A key of tests: an id, and 32 bytes in base64.
const OLD: &str = "old AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const NEW: &str = "new AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const NEWEST: &str = "newest BAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ=";
/// A key with the id of the old one, and another value.
const WRONG: &str = "old AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

/// Writes a file with these keys, and returns its path.
fn keys(lines: &[&str]) -> PathBuf {
    let file = std::env::temp_dir().join(format!("webhook-keys-{}", Uuid::now_v7()));
    std::fs::write(&file, lines.join("\n")).expect("a writable folder");
    file
}

/// Starts a service with these keys and settings, on a database that others may have used.
async fn spawn(database: &Database, lines: &[&str], more: &[&str]) -> Notification {
    let keys = format!("--webhook-keys-file={}", keys(lines).display());
    let settings: Vec<&str> = LOCAL
        .iter()
        .copied()
        .chain([keys.as_str()])
        .chain(more.iter().copied())
        .collect();
    spawn_on(database.clone(), &settings, None).await
}

/// An endpoint's columns: the secret in plain and sealed, and the same of the old one.
type Row = (Vec<u8>, Option<String>, Option<Vec<u8>>, Option<String>);

impl Notification {
    async fn kept(&self) -> Row {
        sqlx::query_as("select secret, sealed, old_secret, old_sealed from webhook_endpoint")
            .fetch_one(&self.app.pool)
            .await
            .expect("one endpoint")
    }

    /// Waits until the endpoint's columns satisfy `wanted`.
    async fn wait_until_kept(&self, what: &str, wanted: impl Fn(&Row) -> bool) {
        eventually(what, || async {
            let row = self.kept().await;
            if wanted(&row) {
                Ok(())
            } else {
                Err(format!("{row:?}"))
            }
        })
        .await;
    }

    /// Has a webhook sent, waits until it is received, and checks that exactly these secrets sign it.
    async fn sends_signed_by(&self, receiver: &Receiver, secrets: &[&str]) {
        let n = receiver.seen("/hook").len();
        self.probe.publish(&confirmed(OrderId::new())).await;
        let hook = receiver.wait_for("/hook", n + 1).await.remove(n);
        assert_eq!(hook.signatures(), secrets.len(), "{hook:?}");
        for secret in secrets {
            assert!(hook.is_signed_by(secret), "{secret}: {hook:?}");
        }
    }
}

fn sealed_by(key: &str) -> impl Fn(&Row) -> bool {
    let prefix = format!("{key}:");
    move |(plain, sealed, ..)| {
        plain.is_empty()
            && sealed
                .as_ref()
                .is_some_and(|sealed| sealed.starts_with(&prefix))
    }
}

#[tokio::test]
async fn table_holds_no_plain_secret() {
    let (notification, receiver, endpoint) = listening().await;
    let first = text(&endpoint, "secret");
    let rotated = notification.act(&endpoint, "rotate").await;
    let second = text(&rotated, "secret");
    notification
        .sends_signed_by(&receiver, &[first, second])
        .await;
    let (plain, sealed, old_plain, old_sealed) = notification.kept().await;
    assert!(plain.is_empty() && sealed.is_some(), "{sealed:?}");
    assert_eq!(old_plain.as_deref(), Some(&[][..]));
    assert!(old_sealed.is_some());

    // No other column holds a secret either, in base64 or in hexadecimal.
    let dump: String = sqlx::query_scalar(
        "select coalesce(string_agg(row::text, ' '), '') from (
             select to_jsonb(e) as row from webhook_endpoint e union all select to_jsonb(w) from webhook w
             union all select to_jsonb(a) from webhook_attempt a) as rows",
    )
    .fetch_one(&notification.app.pool)
    .await
    .expect("text");
    for secret in [first, second] {
        let base64 = secret.trim_start_matches("whsec_");
        let hex: String = sqlx::query_scalar("select encode(decode($1, 'base64'), 'hex')")
            .bind(base64)
            .fetch_one(&notification.app.pool)
            .await
            .expect("hex");
        assert!(!dump.contains(base64) && !dump.contains(&hex), "{dump}");
    }
    notification.stop().await;
}

#[tokio::test]
async fn keys_are_rotated_while_webhooks_go() {
    let database = Database::create("notification").await;
    let receiver = Receiver::start().await;
    let notification = spawn(&database, &[OLD], &[]).await;
    let endpoint = notification
        .register(json!({ "url": receiver.url("/hook") }))
        .await;
    let secret = text(&endpoint, "secret");
    assert!(sealed_by("old")(&notification.kept().await));
    notification.stop().await;

    // The new key only opens at first, and then seals.
    for (lines, key) in [([OLD, NEW], "old"), ([NEW, OLD], "new")] {
        let notification = spawn(&database, &lines, &[]).await;
        notification.sends_signed_by(&receiver, &[secret]).await;
        notification
            .wait_until_kept("it is sealed by the first key", sealed_by(key))
            .await;
        notification.stop().await;
    }
    let notification = spawn(&database, &[NEW], &[]).await;
    notification.sends_signed_by(&receiver, &[secret]).await;
    notification.stop().await;
}

#[tokio::test]
async fn webhooks_wait_for_a_missing_key() {
    let database = Database::create("notification").await;
    let receiver = Receiver::start().await;
    let notification = spawn(&database, &[OLD], &[]).await;
    let endpoint = notification
        .register(json!({ "url": receiver.url("/hook") }))
        .await;
    notification.stop().await;
    let order = OrderId::new();
    for (n, lines) in [[NEW], [WRONG]].iter().enumerate() {
        let notification = spawn(&database, lines, &[]).await;
        if n == 0 {
            notification.probe.publish(&confirmed(order)).await;
        }
        // The webhook is put off repeatedly: nothing is sent, and no attempt is counted.
        let due = Mutex::new(BTreeSet::new());
        eventually("it is put off repeatedly", || async {
            let at: Option<String> =
                sqlx::query_scalar("select due_at::text from webhook where attempts = 0")
                    .fetch_optional(&notification.app.pool)
                    .await
                    .expect("the table is there");
            let mut due = due.lock().expect("nobody panics with it");
            due.extend(at);
            if due.len() > 4 {
                Ok(())
            } else {
                Err(format!("{due:?}"))
            }
        })
        .await;
        let seen = notification.endpoint(&endpoint).await;
        assert_eq!(seen["state"], "enabled", "not the endpoint's fault");
        assert!(receiver.seen("/hook").is_empty());
        notification.stop().await;
    }
    let notification = spawn(&database, &[OLD], &[]).await;
    let hook = receiver.wait_for("/hook", 1).await.remove(0);
    assert!(hook.is_signed_by(text(&endpoint, "secret")), "{hook:?}");
    notification.stop().await;
}

/// A key is lost, and the owner of an endpoint rotates its secret once. The new secret signs at once, alone, and is
/// sealed anew like any other; the one before signs too when its key is found.
#[tokio::test]
async fn secret_that_opens_signs_beside_one_that_does_not() {
    let database = Database::create("notification").await;
    let receiver = Receiver::start().await;
    let notification = spawn(&database, &[OLD], &[]).await;
    let endpoint = notification
        .register(json!({ "url": receiver.url("/hook") }))
        .await;
    let lost = text(&endpoint, "secret");
    notification.stop().await;

    let notification = spawn(&database, &[NEW], &[]).await;
    let rotated = notification.act(&endpoint, "rotate").await;
    let secret = text(&rotated, "secret");
    notification.sends_signed_by(&receiver, &[secret]).await;
    let (.., old_sealed) = notification.kept().await;
    notification.stop().await;

    // The lost one keeps the other from nothing, and is left as it is.
    let notification = spawn(&database, &[NEWEST, NEW], &[]).await;
    notification
        .wait_until_kept("it is sealed by the first key", sealed_by("newest"))
        .await;
    let (.., left) = notification.kept().await;
    assert!(left.is_some() && left == old_sealed, "{left:?}");
    notification.sends_signed_by(&receiver, &[secret]).await;
    notification.stop().await;

    let notification = spawn(&database, &[NEWEST, OLD], &[]).await;
    notification
        .sends_signed_by(&receiver, &[secret, lost])
        .await;
    notification.stop().await;
}

#[tokio::test]
async fn secrets_of_older_replicas_sign_and_are_sealed() {
    let database = Database::create("notification").await;
    let receiver = Receiver::start().await;
    // As before the upgrade, the secret is in plain, for replicas that cannot open a sealed one.
    let notification = spawn(&database, &[OLD], &["--webhook-seal-secrets=false"]).await;
    let endpoint = notification
        .register(json!({ "url": receiver.url("/hook") }))
        .await;
    let secret = text(&endpoint, "secret");
    let (plain, sealed, ..) = notification.kept().await;
    assert_eq!((plain.len(), sealed), (32, None));
    notification.sends_signed_by(&receiver, &[secret]).await;
    notification.stop().await;

    let notification = spawn(&database, &[OLD], &[]).await;
    notification
        .wait_until_kept("it is sealed", sealed_by("old"))
        .await;
    notification.sends_signed_by(&receiver, &[secret]).await;
    // An older replica rotates the secret meanwhile: the one that it writes in plain signs, beside the old one.
    let over = "update webhook_endpoint set old_secret = secret, old_secret_until = now() + interval '1 day',
                secret = decode('C2FVsBQIhrscChlQIMV+b5sSYspob7oD', 'base64') where id = $1";
    notification.alter(over, &endpoint["id"]).await;
    let by_the_older = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    notification
        .sends_signed_by(&receiver, &[by_the_older, secret])
        .await;
    notification.stop().await;

    // The next check seals both, and before a rollback both are put back in plain.
    let notification = spawn(&database, &[OLD], &[]).await;
    notification
        .wait_until_kept("both are sealed", |row| {
            sealed_by("old")(row) && row.2.as_ref().is_some_and(Vec::is_empty) && row.3.is_some()
        })
        .await;
    notification
        .sends_signed_by(&receiver, &[by_the_older, secret])
        .await;
    notification.stop().await;
    let notification = spawn(&database, &[OLD], &["--webhook-seal-secrets=false"]).await;
    notification
        .wait_until_kept("both are plain", |(plain, sealed, old_plain, _)| {
            let old = old_plain.as_ref().map_or(0, Vec::len);
            (plain.len(), old) == (24, 32) && sealed.is_none()
        })
        .await;
    notification.stop().await;
}
