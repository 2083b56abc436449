//! Keeps webhook secrets in the form that the settings want: sealed by the first key, or in plain. Secrets that older
//! replicas wrote in plain are sealed, those that another key sealed are sealed anew, and old secrets that have expired
//! are deleted.

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

/// The reason for which a secret is left as it is.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Unopened(#[from] Unopened),
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Checks all secrets now and every ten minutes, until `shutdown`.
pub(crate) async fn settle_secrets(pool: PgPool, vault: Arc<Vault>, shutdown: CancellationToken) {
    loop {
        let wait = match settle(&pool, &vault).await {
            Ok(()) => EVERY,
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

/// Checks the secrets of each endpoint once. One that cannot be opened is left as it is, and the others are still
/// checked.
async fn settle(pool: &PgPool, vault: &Vault) -> Result<(), Error> {
    let (mut after, mut changed) = (Uuid::nil(), 0_u64);
    let mut unopened: BTreeMap<String, u32> = BTreeMap::new();
    loop {
        let ids = endpoints::ids_after(pool, after, CHUNK).await?;
        let Some(last) = ids.last() else { break };
        after = *last;
        for id in ids {
            match settle_one(pool, vault, id).await {
                Ok(was_changed) => changed += u64::from(was_changed),
                Err(Error::Unopened(why)) => *unopened.entry(why.to_string()).or_default() += 1,
                Err(error) => return Err(error),
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
    for (why, endpoints) in &unopened {
        error!(
            endpoints,
            why, "cannot open webhook secrets: their webhooks wait"
        );
    }
    gauge!("webhook_secrets_unopened").set(unopened.values().copied().map(f64::from).sum::<f64>());
    Ok(())
}

/// Brings the secrets of one endpoint into the wanted form. Returns true if that changed the row.
async fn settle_one(pool: &PgPool, vault: &Vault, id: Uuid) -> Result<bool, Error> {
    let mut tx = database::begin(pool, "settle webhook secrets").await?;
    // The endpoint may have been deleted since its id was read.
    let Some(secrets) = endpoints::lock_secrets(&mut tx, id).await? else {
        return Ok(false);
    };
    let settled = |kept: Kept| -> Result<Kept, Error> {
        if vault.is_settled(&kept) {
            return Ok(kept);
        }
        Ok(vault.keep(id, &vault.reveal(id, &kept)?)?)
    };
    let wanted = Secrets {
        endpoint_id: id,
        secret: settled(secrets.secret.clone())?,
        old: secrets.old.clone().map(settled).transpose()?,
    };
    if wanted == secrets {
        return Ok(false);
    }
    endpoints::keep_secrets(&mut tx, &wanted).await?;
    tx.commit().await?;
    Ok(true)
}
