//! The use cases: charge and refund.

use std::time::Duration;

use chassis::database;
use holdfast::{backoff::pause, failpoint};
use sqlx::PgPool;

use crate::{
    domain::{Chance, Knobs, Status},
    error::Error,
    store::{self, Charge},
};

/// The time for which a charge belongs to the task that decides it, beyond the decision's latency. After that, a
/// request with the same key takes it over.
const LEASE: Duration = Duration::from_secs(2);

fn chance() -> Chance {
    Chance {
        fail_before: fastrand::f64(),
        fail_after: fastrand::f64(),
        decline: fastrand::f64(),
        latency: fastrand::f64(),
    }
}

/// Charges a card, once per key. It must run to its end even if the merchant hangs up, so a capture may land late: give
/// it a task of its own. A task that dies leaves the charge to the next request with the key.
pub(crate) async fn charge(pool: PgPool, asked: Charge) -> Result<Charge, Error> {
    let (knobs, chance) = (store::knobs(&pool).await?, chance());
    if knobs.fails_before(&chance) {
        return Err(Error::Knob);
    }
    let latency = knobs.latency(Some(&asked.token), &chance);

    let mut tx = database::begin(&pool, "accept charge").await?;
    if !store::begin(&mut tx, &asked, latency + LEASE).await? {
        let before = store::lock_by_key(&mut tx, &asked.idempotency_key)
            .await?
            .ok_or(Error::NoCharge)?;
        if before.request_hash != asked.request_hash {
            return Err(Error::KeyReused);
        }
        if before.status != Status::Processing {
            return lost(&knobs, &chance, before);
        }
        if !before.is_abandoned {
            return Err(Error::InProgress);
        }
        store::take_over(&mut tx, before.id, latency + LEASE).await?;
    }
    tx.commit().await?;
    failpoint!("card_processor.accepted");
    pause(latency).await;

    let mut tx = database::begin(&pool, "decide charge").await?;
    let mut charge = store::lock_by_key(&mut tx, &asked.idempotency_key)
        .await?
        .ok_or(Error::NoCharge)?;
    if charge.status == Status::Processing {
        charge.status = knobs.decide(&charge.token, &chance);
        store::decide(&mut tx, &charge, charge.status).await?;
        tx.commit().await?;
    }
    failpoint!("card_processor.decided");
    lost(&knobs, &chance, charge)
}

/// Refunds a charge, once, whatever the keys of the requests. Fails with [`Error::NotCaptured`] if it was not captured.
pub(crate) async fn refund(pool: PgPool, id: uuid::Uuid, key: String) -> Result<Charge, Error> {
    let (knobs, chance) = (store::knobs(&pool).await?, chance());
    if knobs.fails_before(&chance) {
        return Err(Error::Knob);
    }
    pause(knobs.latency(None, &chance)).await;
    let mut tx = database::begin(&pool, "refund charge").await?;
    let charge = store::lock(&mut tx, id).await?.ok_or(Error::NoCharge)?;
    if charge.status != Status::Captured {
        return Err(Error::NotCaptured);
    }
    store::refund(&mut tx, &charge, &key).await?;
    tx.commit().await?;
    failpoint!("card_processor.decided");
    lost(&knobs, &chance, charge)
}

/// Returns the charge, or [`Error::Knob`] if a knob loses the answer.
fn lost(knobs: &Knobs, chance: &Chance, charge: Charge) -> Result<Charge, Error> {
    if knobs.fails_after(chance) {
        Err(Error::Knob)
    } else {
        Ok(charge)
    }
}
