//! Keeps webhook secrets in the form that the settings want: sealed by the first key, or in plain. Secrets that older
//! replicas wrote in plain are sealed, those that another key sealed are sealed anew, and old secrets that have expired
//! are deleted. Those that do not open are counted, and left as they are: their key may come back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chassis::database;
use holdfast::backoff::pause;
use metrics::gauge;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::webhooks::{
    client::{NoRandomness, Unopened, Vault},
    store::endpoints::{self, Kept, Secrets},
};

/// The interval at which all secrets are checked: older replicas that run at the same time may write more in plain.
const EVERY: Duration = Duration::from_secs(600);
/// The wait after a failed check.
const AGAIN: Duration = Duration::from_secs(1);
/// The number of endpoints that are read at a time.
const CHUNK: i64 = 500;

/// The reasons for which secrets do not open, each with the number of secrets.
type Reasons = BTreeMap<String, u32>;

/// The reason for which the secrets cannot be checked. The check is repeated soon.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Checks all secrets now and every ten minutes, until `shutdown`. Logs those that do not open when they change.
pub(crate) async fn settle_secrets(pool: PgPool, vault: Arc<Vault>, shutdown: CancellationToken) {
    let mut logged = Reasons::new();
    loop {
        let wait = match settle(&pool, &vault).await {
            Ok(unopened) => {
                gauge!("webhook_secrets_unopened").set(f64::from(unopened.values().sum::<u32>()));
                if unopened != logged {
                    log(&unopened);
                    logged = unopened;
                }
                EVERY
            }
            Err(error) => {
                warn!(%error, "cannot check the webhook secrets");
                AGAIN
            }
        };
        if shutdown.run_until_cancelled(pause(wait)).await.is_none() {
            return;
        }
    }
}

fn log(unopened: &Reasons) {
    for (why, secrets) in unopened {
        error!(
            secrets,
            why,
            "cannot open webhook secrets: webhooks wait if no other secret of their endpoint opens"
        );
    }
}

/// Checks the secrets of each endpoint once. Returns the reasons for which some do not open.
async fn settle(pool: &PgPool, vault: &Vault) -> Result<Reasons, Error> {
    let (mut after, mut changed) = (Uuid::nil(), 0_u64);
    let mut unopened = Reasons::new();
    loop {
        let ids = endpoints::ids_after(pool, after, CHUNK).await?;
        let Some(last) = ids.last() else { break };
        after = *last;
        for id in ids {
            let checked = settle_one(pool, vault, id).await?;
            changed += u64::from(checked.is_changed);
            for why in checked.unopened {
                *unopened.entry(why.to_string()).or_default() += 1;
            }
        }
    }
    if changed > 0 {
        info!(
            endpoints = changed,
            ?vault,
            "webhook secrets are kept as the settings say"
        );
    }
    Ok(unopened)
}

/// The result of checking an endpoint's secrets.
#[derive(Default)]
struct Checked {
    /// True if the row was changed.
    is_changed: bool,
    /// The reasons for which secrets do not open, one for each.
    unopened: Vec<Unopened>,
}

/// Brings the secrets of one endpoint into the wanted form.
async fn settle_one(pool: &PgPool, vault: &Vault, id: Uuid) -> Result<Checked, Error> {
    let mut tx = database::begin(pool, "settle webhook secrets").await?;
    // The endpoint may have been deleted since its id was read.
    let Some(secrets) = endpoints::lock_secrets(&mut tx, id).await? else {
        return Ok(Checked::default());
    };
    let (wanted, unopened) = settled(vault, &secrets)?;
    let is_changed = wanted != secrets;
    if is_changed {
        endpoints::keep_secrets(&mut tx, &wanted).await?;
        tx.commit().await?;
    }
    Ok(Checked {
        is_changed,
        unopened,
    })
}

/// Returns an endpoint's secrets in the wanted form, and the reasons for which some of them do not open. Each is opened
/// even if its form is right: its key may have another value now.
fn settled(vault: &Vault, secrets: &Secrets) -> Result<(Secrets, Vec<Unopened>), NoRandomness> {
    let id = secrets.endpoint_id;
    let mut unopened = Vec::new();
    let mut settled = |kept: &Kept| match vault.reveal(id, kept) {
        Ok(_) if vault.is_settled(kept) => Ok(kept.clone()),
        Ok(secret) => vault.keep(id, &secret),
        Err(why) => {
            unopened.push(why);
            Ok(kept.clone())
        }
    };
    let wanted = Secrets {
        endpoint_id: id,
        secret: settled(&secrets.secret)?,
        old: secrets.old.as_ref().map(settled).transpose()?,
    };
    Ok((wanted, unopened))
}

#[cfg(test)]
mod tests {
    use chassis::settings::Environment;
    use clap::Parser;

    use super::*;
    use crate::webhooks::config::WebhookSettings;

    const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    const OTHER: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        webhook: WebhookSettings,
    }

    /// Makes a vault with these keys, each an id and its value.
    fn vault(keys: &[(&str, &str)]) -> Vault {
        let lines: Vec<String> = keys.iter().map(|(id, key)| format!("{id} {key}")).collect();
        let file = std::env::temp_dir().join(format!("webhook-keys-{}", Uuid::now_v7()));
        std::fs::write(&file, lines.join("\n")).expect("a writable folder");
        let setting = format!("--webhook-keys-file={}", file.display());
        let settings = Settings::parse_from(["test", &setting]);
        let vault = Vault::open(&settings.webhook, Environment::Production).expect("keys");
        std::fs::remove_file(file).expect("it was written");
        vault
    }

    #[test]
    fn unopened_secret_is_counted_and_the_other_is_sealed_anew() {
        let id = Uuid::now_v7();
        let keep = |vault: &Vault, secret: &[u8]| vault.keep(id, secret).expect("random");
        let (before, after) = (vault(&[("a", KEY)]), vault(&[("b", OTHER)]));
        let both = vault(&[("c", KEY), ("b", OTHER)]);
        let (lost, kept) = (keep(&before, b"lost"), keep(&after, b"kept"));
        for is_lost_present in [false, true] {
            let [secret, old] = if is_lost_present {
                [&lost, &kept]
            } else {
                [&kept, &lost]
            };
            let secrets = Secrets {
                endpoint_id: id,
                secret: secret.clone(),
                old: Some(old.clone()),
            };
            let (wanted, unopened) = settled(&both, &secrets).expect("random");
            assert_eq!(unopened, [Unopened::NoKey("a".to_owned())]);
            let old = wanted.old.expect("it is kept");
            let [left, sealed] = if is_lost_present {
                [wanted.secret, old]
            } else {
                [old, wanted.secret]
            };
            assert_eq!(left, lost);
            assert!(both.is_settled(&sealed) && sealed != kept, "{sealed:?}");
            assert_eq!(both.reveal(id, &sealed).as_deref(), Ok(&b"kept"[..]));
        }
    }

    #[test]
    fn secret_under_the_first_keys_id_is_opened_as_well() {
        let id = Uuid::now_v7();
        let secret = vault(&[("a", KEY)]).keep(id, b"secret").expect("random");
        let secrets = Secrets {
            endpoint_id: id,
            secret,
            old: None,
        };
        let (wanted, unopened) = settled(&vault(&[("a", OTHER)]), &secrets).expect("random");
        assert_eq!(wanted, secrets);
        assert_eq!(unopened, [Unopened::WrongKey("a".to_owned())]);
    }
}
