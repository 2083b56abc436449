//! Runs the drills that the page starts, one at a time, and reports them line by line to the watchers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use load_tests::{
    api::Api,
    drill::{self, Drill, LockServer, Stage, Verdict},
    reconcile::Sources,
};
use serde_json::json;
use tokio::{
    sync::{Semaphore, mpsc::Receiver},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::commands::{DrillBox, Room};

/// The length of the card processor's outage in the drill `card-outage`: as long as a visitor may look at the page.
const OUTAGE: Duration = Duration::from_secs(60);
/// The time limit for mending when the room closes during a drill.
const MEND: Duration = Duration::from_secs(8);

/// The runner of the drills.
pub(crate) struct Drillmaster {
    api: Arc<Api>,
    books: Sources,
    locks: LockServer,
    room: Arc<Room>,
    orders: Receiver<Drill>,
    turn: Arc<Semaphore>,
}

impl Drillmaster {
    pub(crate) fn new(
        api: Api,
        books: Sources,
        locks: LockServer,
        room: Arc<Room>,
    ) -> (Self, DrillBox) {
        let (drills, orders, turn) = DrillBox::new();
        let master = Self {
            api: Arc::new(api),
            books,
            locks,
            room,
            orders,
            turn,
        };
        (master, drills)
    }

    /// Runs each drill that is placed in the box, until `shutdown`. A drill that the shutdown interrupts is mended.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let order = shutdown.run_until_cancelled(self.orders.recv()).await;
            let Some(Some(drill)) = order else {
                return;
            };
            let lines = Arc::new(Mutex::new(Vec::<String>::new()));
            let (room, told) = (Arc::clone(&self.room), Arc::clone(&lines));
            let tell = move |line: &str| {
                let mut lines = told.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push(line.to_owned());
                room.tell(
                    "drill",
                    &json!({ "name": drill.name(), "running": true, "lines": *lines }),
                );
            };
            let stage = Stage::new(
                Arc::clone(&self.api),
                self.books.clone(),
                self.locks.clone(),
                Arc::new(tell),
            );
            info!(drill = drill.name(), "a drill begins");
            let ended = shutdown
                .run_until_cancelled(Box::pin(drill::run(drill, &stage, OUTAGE)))
                .await;
            let Some(ended) = ended else {
                if !matches!(timeout(MEND, stage.mend()).await, Ok(Ok(()))) {
                    warn!("closed during a drill, and could not mend what it broke");
                }
                return;
            };
            let verdict = match ended {
                Ok(Verdict::Passed) => "the books agree".to_owned(),
                Ok(Verdict::BooksDisagree) => "THE BOOKS DO NOT AGREE".to_owned(),
                Ok(Verdict::LimitExceeded) => "A LIMIT WAS EXCEEDED; the books agree".to_owned(),
                Err(error) => {
                    // The error contains addresses, which only the log may show.
                    warn!(
                        error = format!("{error:#}"),
                        drill = drill.name(),
                        "a drill failed"
                    );
                    "the drill failed; the control room's log says why".to_owned()
                }
            };
            info!(drill = drill.name(), verdict, "a drill is over");
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(verdict);
            let news = json!({ "name": drill.name(), "running": false, "lines": *lines });
            self.room.tell("drill", &news);
            self.turn.add_permits(1);
        }
    }
}
