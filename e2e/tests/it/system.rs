//! The whole system for one test: every service as a real process, on databases and a virtual host of its own, with a
//! proxy on every connection that can be cut.

use std::{
    collections::{BTreeMap, HashSet},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    sync::Mutex,
    time::Duration,
};

use contracts::value::OrderId;
use load_tests::{
    api::{Api, ServiceUrls},
    reconcile::{Report, Sources, Wanted, reconcile},
    traffic::{Cancel, Coordination, Ending, seed},
};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use testkit::{
    Answer, Database, PATIENCE, Probe, Proxy, Redis, SmtpSink, Vhost, answer, client, eventually,
    service_token_file,
};
use uuid::Uuid;
use xtask::{
    process::{MARK, Process, Recipe},
    wiring::{ROOM, SERVICES, Wiring, database_of},
    workspace,
};

const SIGTERM: i32 = 15;

/// The running services, with their databases, broker and mail server.
pub(crate) struct System {
    pub(crate) api: Api,
    pub(crate) vhost: Vhost,
    pub(crate) probe: Probe,
    /// The proxy to the broker.
    pub(crate) broker: Proxy,
    /// The proxy from payment to the card processor.
    pub(crate) card: Proxy,
    /// The proxy to each database.
    pub(crate) database_lines: BTreeMap<&'static str, Proxy>,
    pub(crate) databases: BTreeMap<&'static str, Database>,
    pub(crate) smtp: SmtpSink,
    wiring: Wiring,
    sources: Sources,
    folder: PathBuf,
    http: reqwest::Client,
    running: Mutex<BTreeMap<&'static str, Process>>,
    accepted: Mutex<HashSet<OrderId>>,
}

/// Additional variables, for all services or for one.
pub(crate) type Extra<'a> = &'a [(&'a str, &'a str)];

impl System {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts all services, with additional variables.
    pub(crate) async fn start_with(extra: Extra<'_>) -> Self {
        let vhost = Vhost::create().await;
        let broker = Proxy::start(vhost.server()).await;
        let smtp = SmtpSink::start().await;
        let (databases, database_lines) = create_databases().await;
        let folder = workspace::root().join("target/test/e2e").join(vhost.name());
        std::fs::create_dir_all(&folder).expect("a writable target folder");

        let ports: BTreeMap<_, _> = SERVICES
            .into_iter()
            .chain([ROOM])
            .map(|service| (service, xtask::ports::free().expect("a free port")))
            .collect();
        let processor = format!("127.0.0.1:{}", ports["card-processor"]);
        let card = Proxy::start(processor.parse().expect("an address")).await;
        let wiring = Wiring {
            ports,
            databases: database_lines
                .iter()
                .map(|(service, line)| (*service, databases[service].url_via(line.address())))
                .collect(),
            brokers: broker_urls(&vhost, &broker),
            smtp: format!("smtp://{}", smtp.address()),
            broker_page: None,
            card_processor: Some(format!("http://{}", card.address())),
            token_file: service_token_file("holdfast"),
            extra: settings(databases["payment"].name(), extra),
        };
        let sources = books(&databases, &vhost);
        let system = Self {
            api: Api::new(places(&wiring)).expect("a client"),
            probe: Probe::attach(&vhost).await,
            vhost,
            broker,
            card,
            database_lines,
            databases,
            smtp,
            wiring,
            sources,
            folder,
            http: client(),
            running: Mutex::default(),
            accepted: Mutex::default(),
        };
        for service in SERVICES {
            system.revive(service, &[]);
        }
        system.all_ready().await;
        system.show_auditor().await;
        seed(&system.api).await.expect("the demo's goods and money");
        system
    }

    /// Lets the auditor read the views of every service.
    async fn show_auditor(&self) {
        for database in self.databases.values() {
            let shown = "grant usage on schema audit to auditor; grant select on all tables in schema audit to auditor";
            let granted = sqlx::raw_sql(shown).execute(&database.pool()).await;
            granted.expect("the services have made what the auditor is shown");
        }
    }

    /// Starts a service that does not run, with additional variables.
    pub(crate) fn revive(&self, service: &'static str, extra: Extra<'_>) {
        let mut environment = self.wiring.environment(service);
        environment.extend(
            extra
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let recipe = Recipe {
            name: service.to_owned(),
            program: workspace::binary(service),
            arguments: Vec::new(),
            environment,
            folder: self.folder.clone(),
            user: None,
            log: self.folder.join(format!("{service}.log")),
            // `cargo xtask test` looks for processes with its mark, and reports those left behind.
            stack: std::env::var_os(MARK).map_or_else(|| self.folder.clone(), PathBuf::from),
            stop: SIGTERM,
        };
        let process = recipe.start().expect("the binary was built");
        let before = self.running().insert(service, process);
        assert!(before.is_none(), "{service} runs already");
    }

    /// Starts the control room, in demo mode. The services have to be in demo mode, too.
    pub(crate) async fn open_room(&self) {
        self.revive_room(&[]).await;
    }

    /// Starts the control room in demo mode, with additional variables.
    pub(crate) async fn revive_room(&self, more: Extra<'_>) {
        let books = &self.sources;
        let settings = [
            ("ORDER_DATABASE_URL", &books.order_database_url),
            ("PAYMENT_DATABASE_URL", &books.payment_database_url),
            ("INVENTORY_DATABASE_URL", &books.inventory_database_url),
            (
                "NOTIFICATION_DATABASE_URL",
                &books.notification_database_url,
            ),
            (
                "ORCHESTRATOR_DATABASE_URL",
                &books.orchestrator_database_url,
            ),
            (
                "CARD_PROCESSOR_DATABASE_URL",
                &books.card_processor_database_url,
            ),
            ("RABBITMQ_API", &books.rabbitmq_api),
            ("RABBITMQ_VHOST", &books.rabbitmq_vhost),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()));
        let places = SERVICES.map(|service| {
            let name = service.to_uppercase().replace('-', "_");
            (format!("{name}_URL"), self.url(service))
        });
        let all: Vec<_> = settings.into_iter().chain(places).collect();
        let mut extra: Vec<(&str, &str)> = all
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        extra.push(("DEMO_MODE", "true"));
        extra.extend(more);
        self.revive(ROOM, &extra);
        self.ready(ROOM).await;
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Process>> {
        self.running.lock().expect("no test panicked meanwhile")
    }

    /// Kills a service, as `kill -9` does.
    pub(crate) fn kill(&self, service: &'static str) {
        let mut process = self.running().remove(service).expect("it runs");
        process.kill().expect("a child can be killed");
    }

    /// Sends a service SIGTERM and waits until it has ended. The proxies run in this process, so the wait must not
    /// block.
    pub(crate) async fn stop(&self, service: &'static str) {
        self.running()[service].signal(SIGTERM);
        eventually(&format!("{service} stops"), || async {
            self.ended(service).ok_or_else(|| self.log(service))
        })
        .await;
        self.running().remove(service);
    }

    /// Returns how a service ended, or `None` while it runs.
    pub(crate) fn ended(&self, service: &'static str) -> Option<std::process::ExitStatus> {
        let mut running = self.running();
        running
            .get_mut(service)
            .expect("it was started")
            .ended()
            .expect("a child can be asked")
    }

    /// Waits until a service has aborted at its failpoint. Nothing else in a service aborts.
    pub(crate) async fn aborted(&self, service: &'static str, point: &str) {
        let status = eventually(
            &format!("{service} aborts at {point}: the point was not hit"),
            || async { self.ended(service).ok_or("it runs") },
        )
        .await;
        assert_eq!(
            status.signal(),
            Some(6),
            "{service} at {point}: {status}\n{}",
            self.log(service)
        );
        self.running().remove(service);
    }

    /// Returns the last 30 lines of a service's log.
    pub(crate) fn log(&self, service: &str) -> String {
        xtask::process::tail(&self.folder.join(format!("{service}.log")), 30)
    }

    /// Returns a service's whole log.
    pub(crate) fn whole_log(&self, service: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{service}.log"))).unwrap_or_default()
    }

    pub(crate) async fn all_ready(&self) {
        for service in SERVICES {
            self.ready(service).await;
        }
    }

    pub(crate) async fn ready(&self, service: &'static str) {
        let url = format!("{}/health/ready", self.wiring.url(service));
        eventually(&format!("{service} is ready"), || async {
            if let Some(status) = self.ended(service) {
                return Err(format!("it ended ({status}) {}", self.log(service)));
            }
            match self.http.get(&url).send().await {
                Ok(answer) if answer.status() == 200 => Ok(()),
                Ok(answer) => Err(answer.text().await.unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Returns the base URL of a service.
    pub(crate) fn url(&self, service: &str) -> String {
        self.wiring.url(service)
    }

    /// Returns a request with an operator's token.
    pub(crate) fn as_operator(&self, service: &str, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.wiring.url(service)))
            .bearer_auth(testkit::token("olga", chassis::identity::Role::Operator))
    }

    /// Returns a service's metrics, or the error of the request for them.
    pub(crate) async fn metrics(&self, service: &str) -> String {
        let url = format!("{}/metrics", self.wiring.url(service));
        match self.http.get(url).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    /// Places a choreographed order that should end like this, and sends it again under the same key until it is
    /// accepted, as a customer's app does. Cancels it if that is how it should end.
    pub(crate) async fn place(&self, ending: Ending) -> OrderId {
        self.place_by(Coordination::Choreography, ending).await
    }

    /// Does the same as [`Self::place`] in this way of coordination.
    pub(crate) async fn place_by(&self, way: Coordination, ending: Ending) -> OrderId {
        let (customer, order) = (ending.customer(), ending.order(way));
        let id = self.place_this(customer, &order).await;
        match ending.cancel() {
            Cancel::Never => {}
            Cancel::AtOnce => self.cancel(customer, id).await,
            Cancel::WhenConfirmed => {
                self.wait_for(id, |order| order["state"] != "pending").await;
                self.cancel(customer, id).await;
            }
        }
        id
    }

    /// Places this order, and sends it again under the same key until it is accepted.
    pub(crate) async fn place_this(&self, customer: &str, order: &Value) -> OrderId {
        let key = Uuid::now_v7().to_string();
        let placed = eventually("an order is accepted", || {
            self.api.place(customer, &key, order)
        })
        .await;
        let id: OrderId = placed["id"]
            .as_str()
            .expect("an id")
            .parse()
            .expect("a UUID");
        self.accepted.lock().expect("no panic").insert(id);
        id
    }

    /// Records an order as accepted: it must exist when the books are compared.
    pub(crate) fn accept(&self, id: OrderId) -> OrderId {
        self.accepted.lock().expect("no panic").insert(id);
        id
    }

    /// Cancels an order, and sends the request again until it is accepted.
    pub(crate) async fn cancel(&self, customer: &str, id: OrderId) {
        eventually("a cancel is accepted", || self.api.cancel(customer, id)).await;
    }

    /// Places a choreographed order of each ending, all at once.
    pub(crate) async fn place_all(&self) -> Vec<(Ending, OrderId)> {
        self.place_all_by(&[Coordination::Choreography]).await
    }

    /// Places an order of each ending in both ways of coordination, all at once.
    pub(crate) async fn place_all_both(&self) -> Vec<(Ending, OrderId)> {
        self.place_all_by(&Coordination::ALL).await
    }

    /// Places an order of each ending in each of these ways of coordination, all at once.
    pub(crate) async fn place_all_by(&self, ways: &[Coordination]) -> Vec<(Ending, OrderId)> {
        futures_util::future::join_all(ways.iter().flat_map(|way| {
            Ending::ALL.map(|ending| async move { (ending, self.place_by(*way, ending).await) })
        }))
        .await
    }

    /// Waits until an order is as wanted, and returns it.
    pub(crate) async fn wait_for(&self, id: OrderId, wanted: impl Fn(&Value) -> bool) -> Value {
        let begun = tokio::time::Instant::now();
        loop {
            let last = match self.api.order(id).await {
                Ok(order) if wanted(&order) => return order,
                Ok(order) => order.to_string(),
                Err(error) => error.to_string(),
            };
            assert!(
                begun.elapsed() < PATIENCE,
                "order {id}: not within {PATIENCE:?}; last seen: {last}"
            );
            holdfast::backoff::pause(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all of these are at rest. Checks that each has the end that it should have, with its money and goods
    /// where they belong.
    pub(crate) async fn ended_as_expected(&self, placed: &[(Ending, OrderId)]) {
        for (ending, id) in placed {
            let order = self.wait_for(*id, |order| order["at_rest"] == true).await;
            let (state, reason) = ending.expected();
            assert_eq!(
                (order["state"].as_str(), order["reason"].as_str()),
                (Some(state), reason),
                "{ending:?}: {order}"
            );
            let way = order["coordination"]
                .as_str()
                .and_then(Coordination::named)
                .expect("one of the two ways");
            let payment = self.api.payment_state(*id).await.expect("payment answers");
            let stock = self.api.stock_state(*id).await.expect("inventory answers");
            assert!(
                ending.expected_books(way).contains(&(&payment, &stock)),
                "{ending:?}, {way:?}: payment {payment}, stock {stock}"
            );
        }
    }

    /// Waits until nothing moves, and compares all books.
    pub(crate) async fn reconcile(&self) -> Report {
        self.compare(true).await
    }

    async fn compare(&self, none_by_deadline: bool) -> Report {
        let wanted = Wanted {
            accepted: self.accepted.lock().expect("no panic").clone(),
            none_by_deadline,
        };
        reconcile(&self.sources, PATIENCE, &wanted)
            .await
            .expect("the books can be read")
    }

    /// Waits until nothing moves, and fails unless the books agree.
    pub(crate) async fn reconciled(&self) {
        let report = self.reconcile().await;
        assert!(report.is_clean(), "{report}");
    }

    /// Returns the parked messages of a service.
    pub(crate) async fn parked(&self, service: &str) -> Vec<Value> {
        let answered: Answer =
            answer(self.as_operator(service, Method::GET, "/operator/parked?state=parked")).await;
        answered.expect(200).as_array().expect("a list").clone()
    }

    /// Stops all services. The books must agree before.
    pub(crate) async fn end(self) {
        self.reconciled().await;
        self.discard().await;
    }

    /// Does the same as [`Self::end`] for orders of which some ended by their deadline.
    pub(crate) async fn end_with_deadlines(self) {
        let report = self.compare(false).await;
        assert!(report.is_clean(), "{report}");
        self.discard().await;
    }

    /// Stops all services by SIGTERM, and deletes what the test made.
    pub(crate) async fn discard(self) {
        for process in self.running().values() {
            process.signal(SIGTERM);
        }
        let services: Vec<&'static str> = self.running().keys().copied().collect();
        for service in services {
            self.stop(service).await;
            let log = self.whole_log(service);
            for trouble in ["panicked", "abandoned", "being shutdown"] {
                assert!(!log.contains(trouble), "{service}: {trouble}: {log}");
            }
        }
        self.vhost.delete().await;
        // An error leaves a few logs behind.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Creates a database for each service, and a proxy before it.
async fn create_databases() -> (
    BTreeMap<&'static str, Database>,
    BTreeMap<&'static str, Proxy>,
) {
    let mut databases = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for service in SERVICES {
        let database = Database::create(&database_of(service)).await;
        lines.insert(service, Proxy::start(database.server()).await);
        databases.insert(service, database);
    }
    (databases, lines)
}

/// Returns the URL by which each service with messages reaches the broker, through the proxy.
fn broker_urls(vhost: &Vhost, broker: &Proxy) -> BTreeMap<&'static str, String> {
    [
        "order",
        "payment",
        "inventory",
        "notification",
        "orchestrator",
        ROOM,
    ]
    .map(|service| (service, vhost.url_via(service, broker.address())))
    .into()
}

/// Returns the settings of all services: shorter times than by default, as faults are short here, and `extra`.
fn settings(lock: &str, extra: Extra<'_>) -> Vec<(String, String)> {
    let redis = Redis::shared();
    let ours = [
        ("HTTP_WORKERS", "1"),
        ("DATABASE_MAX_CONNECTIONS", "5"),
        // Shorter than by default, and longer than a busy machine may take.
        ("DATABASE_ACQUIRE_TIMEOUT_MS", "3000"),
        // Leases are these plus ten seconds.
        ("CARD_TIMEOUT_MS", "1000"),
        ("SMTP_TIMEOUT_MS", "1000"),
        ("CARD_BACKOFF_CAP_MS", "500"),
        ("MAIL_BACKOFF_CAP_MS", "500"),
        ("SWEEP_AFTER_MS", "10000"),
        // Faults are short here, so breakers probe much sooner than by default.
        ("CARD_BREAKER_OPEN_MS", "200"),
        ("MAIL_BREAKER_OPEN_MS", "200"),
        ("PRICE_BREAKER_OPEN_MS", "200"),
        // A lock that a killed process leaves behind is free again after this.
        ("ACCOUNT_LOCK_TTL_MS", "2000"),
        ("ACCOUNT_LOCK_NAME", lock),
        ("REDIS_URL", redis.url()),
    ];
    // A setting that is given twice counts as it is given last.
    let settings: BTreeMap<&str, &str> = ours.iter().chain(extra).copied().collect();
    let settings = settings.into_iter();
    settings
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Returns the URLs of the services.
fn places(wiring: &Wiring) -> ServiceUrls {
    let url = |service: &str| wiring.url(service);
    ServiceUrls {
        order_url: url("order"),
        payment_url: url("payment"),
        inventory_url: url("inventory"),
        notification_url: url("notification"),
        orchestrator_url: url("orchestrator"),
        card_processor_url: url("card-processor"),
    }
}

/// Returns the places where the auditor reads the books.
fn books(databases: &BTreeMap<&'static str, Database>, vhost: &Vhost) -> Sources {
    let book = |service: &str| databases[service].url_of("auditor");
    Sources {
        order_database_url: book("order"),
        payment_database_url: book("payment"),
        inventory_database_url: book("inventory"),
        notification_database_url: book("notification"),
        orchestrator_database_url: book("orchestrator"),
        card_processor_database_url: book("card-processor"),
        rabbitmq_api: std::env::var("HOLDFAST_TEST_RABBITMQ_API").expect("a broker"),
        rabbitmq_vhost: vhost.name().to_owned(),
        auditor_password_file: None,
    }
}
