//! The room's own work: it fills the board and, while there is a watcher, completes it, polls the services, and
//! compares the books.

mod drills;

use std::{sync::Arc, time::Duration};

pub(crate) use drills::Drillmaster;

use futures_util::{StreamExt, future::join_all, stream};
use holdfast::backoff;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    client::{Auditor, SERVICES, Services, WITH_MESSAGES},
    commands::Room,
    domain::View,
    error::Error,
};

/// The interval at which changes are sent.
const TICK: Duration = Duration::from_millis(100);
/// The pause between two rounds of requests for orders that may have been missed, and after a failed one.
const HEAL: Duration = Duration::from_secs(1);
/// The most orders that are read at a time.
const AT_ONCE: usize = 4;
/// The most orders that are read in one round.
const MOST: usize = 20;
/// The pause between two polls of the services.
const STANDING: Duration = Duration::from_secs(2);
/// The shortest pause between two comparisons of the books.
const BOOKS: Duration = Duration::from_secs(5);

/// Sends what has changed on the board, at most ten times a second.
pub(crate) async fn tell(room: Arc<Room>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        room.tell_changes();
    }
}

/// Fills the board when it is stale, and reads single orders while there is a watcher.
pub(crate) async fn fill(room: Arc<Room>, services: Arc<Services>, shutdown: CancellationToken) {
    let filling = async {
        let mut failing = false;
        loop {
            if room.take_stale() {
                match begin(&room, &services).await {
                    Ok(orders) => info!(orders, "the board is filled"),
                    Err(error) => {
                        if !failing {
                            warn!(%error, "cannot fill the board");
                        }
                        failing = true;
                        backoff::pause(HEAL).await;
                        room.lost_sight();
                        continue;
                    }
                }
                failing = false;
            }
            let wanted = room.wants(MOST);
            stream::iter(wanted)
                .for_each_concurrent(AT_ONCE, |id| mend(&room, &services, id))
                .await;
            room.look_at_orders_again(HEAL).await;
        }
    };
    shutdown.run_until_cancelled(filling).await;
}

async fn begin(room: &Room, services: &Services) -> Result<usize, Error> {
    let orders = services.newest_orders().await?;
    let count = orders.len();
    stream::iter(orders)
        .for_each_concurrent(AT_ONCE, |view| async move {
            read(room, services, view).await;
        })
        .await;
    room.filled();
    Ok(count)
}

async fn read(room: &Room, services: &Services, view: View) {
    // Without its timeline the order has no steps, and is read again.
    let timeline = services.timeline(view.id).await.unwrap_or_default();
    room.read(view, timeline);
}

async fn mend(room: &Room, services: &Services, id: Uuid) {
    match services.order(id).await {
        Ok(view) => read(room, services, view).await,
        Err(_) => room.asked(id),
    }
}

/// Polls the services for their health, and for what waits for an operator, while there is a watcher.
pub(crate) async fn stand(
    room: Arc<Room>,
    services: Arc<Services>,
    demo: bool,
    shutdown: CancellationToken,
) {
    let standing = async {
        loop {
            let (health, trouble) =
                tokio::join!(health(&services, demo), trouble(&room, &services));
            room.tell("health", &health);
            if let Some(trouble) = trouble {
                room.tell("trouble", &trouble);
            }
            room.look_again(STANDING).await;
        }
    };
    shutdown.run_until_cancelled(standing).await;
}

async fn health(services: &Services, demo: bool) -> Value {
    let asked = SERVICES.map(|service| async move {
        // `None` from a service that does not answer: it is not known whether its queues are paused.
        let paused = async {
            if demo {
                let targets = services.fault_targets(service).await.ok()?;
                Some(targets.paused)
            } else {
                Some(Vec::new())
            }
        };
        let ((ready, checks), paused) = tokio::join!(services.readiness(service), paused);
        json!({ "name": service, "ready": ready, "checks": checks, "paused": paused })
    });
    let knobs = async {
        if demo {
            services.read("card-processor", "/knobs").await.ok()
        } else {
            None::<Value>
        }
    };
    let (asked, knobs) = tokio::join!(join_all(asked), knobs);
    json!({ "services": asked, "card_processor": knobs })
}

/// Returns the numbers of what waits for an operator; `None` unless every service has answered.
async fn trouble(room: &Room, services: &Services) -> Option<Value> {
    let count = |list: Result<Vec<Value>, Error>| list.ok().map(|list| list.len());
    let asked = WITH_MESSAGES.map(|service| async move {
        let (parked, quarantined) = tokio::join!(
            services.read(service, "/operator/parked?state=parked&limit=200"),
            services.read(service, "/operator/outbox"),
        );
        Some((count(parked)?, count(quarantined)?))
    });
    let (asked, orders, sagas) = tokio::join!(
        join_all(asked),
        services.stuck_orders(),
        services.stuck_sagas()
    );
    let (orders, sagas) = (orders.ok()?, sagas.ok()?);
    let (stuck, stuck_sagas) = (orders.len(), sagas.len());
    room.stuck(orders.into_iter().chain(sagas).collect());
    let (mut parked, mut quarantined) = (0, 0);
    for counts in asked {
        let (these, those) = counts?;
        parked += these;
        quarantined += those;
    }
    Some(json!({
        "parked": parked,
        "quarantined": quarantined,
        "stuck": stuck,
        "stuck_sagas": stuck_sagas,
    }))
}

/// Compares the books while there is a watcher, for at most a tenth of the time.
pub(crate) async fn audit(room: Arc<Room>, auditor: Arc<Auditor>, shutdown: CancellationToken) {
    let auditing = async {
        loop {
            room.look_again(Duration::ZERO).await;
            let begun = Instant::now();
            match auditor.look().await {
                Ok(invariants) => room.tell("invariants", &invariants),
                Err(error) => warn!(%error, "cannot compare the books"),
            }
            backoff::pause(BOOKS.max(begun.elapsed() * 9)).await;
        }
    };
    shutdown.run_until_cancelled(auditing).await;
}
