//! The parts of a service, started and stopped in the right order.

mod housekeeping;
mod stages;

use std::{
    future::Future,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::web;
use holdfast::{
    chaos::Halves,
    failpoint, inbox,
    messaging::{self, Consumers, Handler, Link, Publisher},
    outbox::{self, Relay, Waker},
};
use sqlx::{
    PgPool,
    migrate::{MigrateError, Migrator},
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use utoipa::openapi::OpenApi;
use uuid::Uuid;

use self::stages::Stages;
use crate::{
    database::{self, Look},
    demo::{self, DemoState, Faults, Switch},
    dependencies::{self, Dependencies, Dependency},
    events::source_of,
    health::{self, Health},
    identity::Verifier,
    openapi::{self, Part, Routes},
    operator::{self, Desk},
    server::{Name, Shared, serve},
    settings::{
        BrokerSettings, DemoSettings, Environment, HttpSettings, IdentitySettings, Settings,
    },
};

/// A piece of background work: it runs until its token is cancelled, finishes what it has in hand, and returns.
type Work =
    Box<dyn FnOnce(CancellationToken) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The time limit for sending the last spans.
const SPANS: Duration = Duration::from_secs(4);

/// A service being put together: its database, its connections to the broker, its HTTP server and its background work.
///
/// Nothing runs before [`Chassis::run`]. Then the HTTP server answers at once (503 where it needs a database that is
/// unavailable); everything else starts when the schema is up to date. Stopping goes from the entrance to the exit: no
/// more requests, no more messages, no more work, then the outbox is drained once more and the connections are closed.
pub struct Chassis {
    name: &'static str,
    environment: Environment,
    http: HttpSettings,
    /// `None` in a service that keeps nothing.
    pool: Option<PgPool>,
    messaging: Option<Messaging>,
    listener: TcpListener,
    health: Health,
    verifier: Verifier,
    migrators: Vec<Migrator>,
    work: Vec<(&'static str, Work)>,
    /// The routes that are served.
    parts: Vec<Part>,
    /// The name and the purpose of the service, for its document.
    api: OpenApi,
    /// Patterns of paths that have a `GET` and are not in the document.
    pages: &'static [&'static str],
    /// Set in demo mode.
    demo: bool,
    /// The failpoints at which a demonstration may make the process crash.
    failpoints: Vec<&'static str>,
    dependencies: Vec<Dependency>,
    /// The faults that a demonstration has set.
    faults: Faults,
    /// The features that a demonstration may switch off.
    switches: Vec<Switch>,
}

/// The parts of a service that sends and receives messages.
struct Messaging {
    settings: BrokerSettings,
    publisher: Publisher,
    waker: Waker,
    consumers: Consumers,
}

impl Messaging {
    /// Starts the relay, and then the consumers. Returns the publisher, to be closed after both have stopped.
    fn start(self, pool: PgPool, stages: &mut Stages) -> Publisher {
        let halves = Halves(self.publisher.clone());
        let relay = Relay::new(pool, halves, self.waker, outbox::Config::default());
        stages.relaying.start(|token| relay.run(token));
        stages.consuming.start(|token| self.consumers.run(token));
        self.publisher
    }
}

impl Chassis {
    /// Binds the address and reads the keys; connects to nothing yet. `migrator` is the service's own schema.
    pub fn new(name: &'static str, settings: Settings, migrator: Migrator) -> anyhow::Result<Self> {
        let Settings {
            http,
            database,
            identity,
            demo,
        } = settings;
        let chassis = Self::without_database(name, http, &identity, &demo)?;
        let url = database.url()?;
        chassis
            .environment
            .refuse_development_password("DATABASE_URL", &url)?;
        let pool = database::pool(name, &database)?;
        Ok(Self {
            health: Health::default().with_database(Look::new(&pool)),
            pool: Some(pool),
            migrators: vec![migrator],
            ..chassis
        })
    }

    /// Does the same as [`Chassis::new`], for a service that keeps nothing.
    pub fn without_database(
        name: &'static str,
        http: HttpSettings,
        identity: &IdentitySettings,
        demo: &DemoSettings,
    ) -> anyhow::Result<Self> {
        let environment = Environment::of(identity);
        let is_demo = demo.is_on(identity)?;
        // Production refuses this switch by its name, even if it would open nothing.
        let is_meant = demo.is_for_the_network(environment)?;
        let verifier = Verifier::new(identity)?;
        let opening = if is_demo {
            Some("DEMO_MODE=true")
        } else {
            verifier
                .believes_the_development_key()
                .then_some("the development key")
        };
        if let Some(opening) = opening {
            demo.keep_from_the_network(opening, http.http_listen, is_meant)?;
        }
        Ok(Self {
            name,
            environment,
            pool: None,
            messaging: None,
            listener: TcpListener::bind(http.http_listen)?,
            http,
            health: Health::default(),
            verifier,
            migrators: Vec::new(),
            work: Vec::new(),
            parts: vec![Part::new(health::routes)],
            api: OpenApi::default(),
            pages: &[],
            demo: is_demo,
            failpoints: Vec::new(),
            dependencies: Vec::new(),
            faults: Faults::default(),
            switches: Vec::new(),
        })
    }

    /// Returns the service's database.
    ///
    /// # Panics
    ///
    /// If the service was made without a database.
    pub fn pool(&self) -> &PgPool {
        self.pool
            .as_ref()
            .expect("a service that was made with a database")
    }

    /// Adds a link to the checks of [`Health`]: the service is ready only while the link is up.
    #[must_use]
    pub fn ready_while(mut self, name: &'static str, link: Link) -> Self {
        self.health = self.health.with_link(name, link);
        self
    }

    /// Adds failpoints at which a demonstration may make the process crash.
    #[must_use]
    pub fn failpoints(mut self, names: &[&'static str]) -> Self {
        self.failpoints.extend(names);
        self
    }

    /// Adds a dependency: shown and switched under `/operator/dependencies`, and measured.
    #[must_use]
    pub fn depends_on(mut self, dependency: &Dependency) -> Self {
        self.dependencies.push(dependency.clone());
        self
    }

    /// Adds a feature that a demonstration may switch off.
    #[must_use]
    pub fn may_switch_off(mut self, switch: &Switch) -> Self {
        self.switches.push(switch.clone());
        self
    }

    /// Returns the address that was bound.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Consumes `queue` with `handler`. Call it after [`Chassis::with_messaging`].
    #[must_use]
    pub fn consume(mut self, queue: &str, handler: impl Handler) -> Self {
        self.messaging = self.messaging.map(|messaging| {
            let subscription = messaging.settings.subscription(queue);
            Messaging {
                consumers: messaging.consumers.consume(subscription, handler),
                ..messaging
            }
        });
        debug_assert!(self.messaging.is_some(), "with_messaging comes first");
        self
    }

    /// Adds background work, which must run until its token is cancelled.
    #[must_use]
    pub fn work<F>(
        mut self,
        name: &'static str,
        work: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.work
            .push((name, Box::new(move |token| Box::pin(work(token)))));
        self
    }

    /// Sets the patterns of pages for people, which are in no document.
    #[must_use]
    pub fn pages(mut self, patterns: &'static [&'static str]) -> Self {
        self.pages = patterns;
        self
    }

    /// Serves `routes`. `api` describes the service, and the tags of its operations. They need a bearer token, unless
    /// `api` says otherwise.
    #[must_use]
    pub fn serve(
        mut self,
        api: OpenApi,
        routes: impl Fn(&mut Routes) + Send + Sync + 'static,
    ) -> Self {
        let part = Part::new(routes).secured_as(api.security.clone());
        self.parts.push(part);
        self.api = api;
        self
    }

    /// Returns the document of the routes that would be served, without serving them.
    pub fn document(self) -> OpenApi {
        let Self { api, parts, .. } = self.completed();
        openapi::document(api, &parts)
    }

    /// Makes it a service that sends and receives messages: adds an outbox with its relay, an inbox with its pruning,
    /// consumers, and the operator's routes for parked messages. Returns also the waker of the relay (to be called
    /// after each commit that wrote to the outbox), and a link that is up while messages come in, so not while a queue
    /// is paused. Fails if the password file cannot be read.
    pub fn with_messaging(
        mut self,
        settings: BrokerSettings,
    ) -> anyhow::Result<(Self, Waker, Link)> {
        let (name, pool) = (self.name, self.pool().clone());
        let url = settings.url()?;
        self.environment
            .refuse_development_password("AMQP_URL", &url)?;
        let waker = Waker::default();
        let publisher = Publisher::new(&url, format!("{name} publisher"));
        let consumers = Consumers::new(
            &url,
            format!("{name} consumer"),
            publisher.clone(),
            pool.clone(),
        )
        .with_publishers(source_of);
        let decoders = consumers.decoders();
        let (consuming, receiving) = (consumers.link(), consumers.receiving());
        let retention = Duration::from_secs(settings.inbox_retention_hours * 3600);
        self.failpoints.extend(demo::MESSAGING);
        self.migrators
            .extend([outbox::migrator(), inbox::migrator(), messaging::migrator()]);
        self.health = self
            .health
            .with_link("broker, publishing", publisher.link())
            .with_link("broker, consuming", consuming.clone());
        let links = [("publishing", publisher.link()), ("consuming", consuming)];
        self.messaging = Some(Messaging {
            settings,
            publisher,
            waker: waker.clone(),
            consumers,
        });

        let desk = web::Data::new(Desk::new(pool.clone(), waker.clone(), decoders));
        let parking = pool.clone();
        let mut chassis = self
            .work("inbox pruning", move |token| {
                housekeeping::prune_inbox(pool, retention, token)
            })
            .work("broker links", move |token| {
                housekeeping::sample_links(links, token)
            })
            .work("parked messages", move |token| {
                housekeeping::sample_parked(parking, token)
            });
        chassis.parts.push(Part::new(move |routes| {
            operator::routes(routes.app_data(desk.clone()));
        }));
        Ok((chassis, waker, receiving))
    }

    /// Adds the migrations of the schema `audit`, whose views `reconcile` reads. Call it after
    /// [`Chassis::with_messaging`], to whose tables they may refer.
    #[must_use]
    pub fn audited(mut self, migrator: Migrator) -> Self {
        self.migrators.push(migrator);
        self
    }

    /// Adds the routes by which faults can be caused.
    fn with_demo(mut self) -> Self {
        warn!(
            service = self.name,
            "DEMO_MODE: operators may pause, damage and crash this service"
        );
        let queues = self
            .messaging
            .as_ref()
            .map(|messaging| (messaging.consumers.controls(), messaging.publisher.clone()));
        let state = web::Data::new(DemoState {
            queues,
            failpoints: self.failpoints.clone().into(),
            faults: self.faults.clone(),
            switches: self.switches.clone().into(),
            process: Uuid::now_v7(),
        });
        self.parts.push(Part::new(move |routes| {
            demo::routes(routes.app_data(state.clone()));
        }));
        self
    }

    /// Adds the operator's routes for its dependencies, and their gauges.
    fn with_dependencies(self) -> Self {
        let dependencies = Dependencies::new(self.dependencies.clone(), self.demo);
        let (sampled, shown) = (dependencies.clone(), web::Data::new(dependencies));
        let mut chassis = self.work("dependencies", move |token| {
            housekeeping::sample_dependencies(sampled, token)
        });
        chassis.parts.push(Part::new(move |routes| {
            dependencies::routes(routes.app_data(shown.clone()));
        }));
        chassis
    }

    /// Adds the routes that follow from the other settings.
    fn completed(mut self) -> Self {
        if !self.dependencies.is_empty() {
            self = self.with_dependencies();
        }
        if self.demo {
            self = self.with_demo();
        }
        self
    }

    /// Runs until `shutdown`, then stops the parts in order, and returns once all of them have stopped. Fails if the
    /// service cannot start, or if a part ends early. Not cancel safe: if it is dropped, nothing stops in order.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        if failpoint::ENABLED {
            self.environment.refuse("a build with failpoints")?;
        }
        self = self.completed();
        let (name, keys) = (self.name, self.verifier.clone());
        let (migrated, is_migrated) = watch::channel(false);
        let openapi = openapi::document(self.api, &self.parts);
        let health = match &self.pool {
            Some(_) => self.health.with_flag("schema", is_migrated),
            None => self.health,
        };
        let look = health.database().cloned();
        let address = self.listener.local_addr()?;
        let shared = Shared {
            health,
            verifier: self.verifier,
            openapi,
            pages: self.pages,
            faults: self.faults,
            name: Name(name),
        };
        let server = serve(self.listener, &self.http, shared, self.parts)?;
        info!(service = name, %address, "listening");

        let mut stages = Stages::new();
        // From the first request on, so even while the database is awaited.
        stages.work("token keys", |token| keys.keep_fresh(token));
        let mut publisher = None;
        let failed = match migrate(self.pool.as_ref(), &self.migrators, &shutdown).await {
            Ok(true) => {
                migrated.send_replace(true);
                if let (Some(messaging), Some(pool)) = (self.messaging, &self.pool) {
                    publisher = Some(messaging.start(pool.clone(), &mut stages));
                }
                let pool = self.pool.clone();
                stages.work("pool gauges", |token| {
                    housekeeping::sample_pool(pool, token)
                });
                for (name, work) in self.work {
                    stages.work(name, work);
                }
                stages.first_end(&shutdown).await
            }
            Ok(false) => None,
            Err(error) => Some(format!("the schema cannot be brought up to date: {error}")),
        };

        server.stop(stages::LIMIT).await;
        stages.stop().await;
        close(publisher, look, self.pool).await;
        // It blocks, so it runs in another thread. A panic in it loses these spans, and nothing else.
        let _ = tokio::task::spawn_blocking(|| holdfast::telemetry::shutdown(SPANS)).await;
        ended(name, failed)
    }
}

/// Brings the schema up to date. Returns false if `shutdown` came first.
async fn migrate(
    pool: Option<&PgPool>,
    migrators: &[Migrator],
    shutdown: &CancellationToken,
) -> Result<bool, MigrateError> {
    let migration = async {
        match pool {
            Some(pool) => database::migrate(pool, migrators).await,
            None => Ok(()),
        }
    };
    tokio::select! {
        migration = migration => migration.map(|()| true),
        () = shutdown.cancelled() => Ok(false),
    }
}

/// Logs the end of a service, and returns it: an error if something failed.
fn ended(name: &str, failed: Option<String>) -> anyhow::Result<()> {
    match failed {
        None => {
            info!(service = name, "stopped");
            Ok(())
        }
        Some(why) => {
            error!(service = name, why, "stopped");
            Err(anyhow::anyhow!(why))
        }
    }
}

/// Closes the connections to the broker and to the database.
async fn close(publisher: Option<Publisher>, look: Option<Look>, pool: Option<PgPool>) {
    if let Some(publisher) = publisher {
        publisher.close().await;
    }
    if let Some(look) = look {
        // A timeout here leaves one idle connection, which ends with the process.
        let _ = timeout(stages::LIMIT, look.close()).await;
    }
    if let Some(pool) = pool
        && timeout(stages::LIMIT, pool.close()).await.is_err()
    {
        warn!("abandoned connections to the database");
    }
}
