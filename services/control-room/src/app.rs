//! Puts the parts of the room together.

use std::{net::SocketAddr, sync::Arc};

use actix_web::web;
use chassis::Chassis;
use holdfast::messaging::Observer;
use load_tests::api::Api;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Auditor, Services},
    commands::Room,
    config::Config,
    consumer, http,
    worker::{self, Drillmaster},
};

/// The first part of the names of the room's queues. Its broker account may declare only queues with this prefix.
const QUEUE: &str = "control-room.live";

/// The control room, ready to run.
pub struct App {
    chassis: Chassis,
    /// Cancelled on shutdown, to end the watchers' streams.
    closing: CancellationToken,
}

impl App {
    /// Puts the room together; connects to nothing yet.
    pub fn build(config: Config) -> anyhow::Result<Self> {
        let is_demo = config.demo.is_on(&config.identity)?;
        config.refuse_development_passwords()?;
        let Config {
            http,
            identity,
            demo,
            urls,
            books,
            locks,
            room: settings,
            ..
        } = config;
        // Drills do what visitors can do, so they need demo mode as well.
        let drilled = is_demo.then(|| Api::new(urls.clone())).transpose()?;
        let services = Arc::new(Services::new(urls, &identity, is_demo, &settings)?);
        let auditor = Arc::new(Auditor::new(&books)?);
        let room = Arc::new(Room::new());
        let (master, drills) = drilled
            .map(|api| Drillmaster::new(api, books.clone(), locks, Arc::clone(&room)))
            .unzip();
        let closing = CancellationToken::new();
        let observer = Observer::new(settings.amqp()?, "control-room", QUEUE);
        let state = web::Data::new(http::State {
            room: Arc::clone(&room),
            hosts: settings.room_hosts.clone().unwrap_or_default(),
            services: Arc::clone(&services),
            auditor: Arc::clone(&auditor),
            demo: is_demo,
            environment: identity.environment.clone(),
            trace_url: settings.trace_page(),
            links: settings.links(),
            watchers: Arc::new(Semaphore::new(settings.room_watchers.into())),
            drills,
            closing: closing.clone(),
        });

        let seen = Arc::clone(&room);
        let link = observer.link();
        let chassis = Chassis::without_database("control-room", http, &identity, &demo)?
            .ready_while("broker, watching", link)
            .work("watching the broker", |shutdown| async move {
                observer
                    .run(&consumer::WATCHED, shutdown, |sighting| {
                        consumer::take(&seen, sighting);
                    })
                    .await;
            })
            .pages(&http::PAGES)
            .serve(http::api(is_demo), move |routes| {
                http::routes(routes.app_data(state.clone()), is_demo);
            });
        let chassis = informing(chassis, &room, &services, auditor, is_demo);
        let chassis = match master {
            Some(master) => chassis.work("drills", |shutdown| master.run(shutdown)),
            None => chassis,
        };
        Ok(Self { chassis, closing })
    }

    /// Returns the address that the room listens on.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.chassis.address()
    }

    /// Returns the OpenAPI document of the room, without running it.
    pub fn document(self) -> utoipa::openapi::OpenApi {
        self.chassis.document()
    }

    /// Runs until `shutdown`, then finishes the work in progress.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self { chassis, closing } = self;
        // A stream has no end of its own: without this, the shutdown would wait for it.
        let close = async {
            shutdown.cancelled().await;
            closing.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = chassis.run(shutdown.clone()) => ended,
            () = close => Ok(()),
        }
    }
}

/// Adds the work that keeps the watchers informed: of the orders, of the services, and of the books.
fn informing(
    chassis: Chassis,
    room: &Arc<Room>,
    services: &Arc<Services>,
    auditor: Arc<Auditor>,
    is_demo: bool,
) -> Chassis {
    let [told, filled, stood, audited] = [room; 4].map(Arc::clone);
    let [filling, standing] = [services; 2].map(Arc::clone);
    chassis
        .work("telling", |shutdown| worker::tell(told, shutdown))
        .work("the board", |shutdown| {
            worker::fill(filled, filling, shutdown)
        })
        .work("how things stand", move |shutdown| {
            worker::stand(stood, standing, is_demo, shutdown)
        })
        .work("the books", |shutdown| {
            worker::audit(audited, auditor, shutdown)
        })
}
