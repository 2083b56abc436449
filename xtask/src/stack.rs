//! Servers and services together, supervised: `up` runs them, and `verify` breaks them.

mod build;

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, time::Duration};

use self::build::Build;
use crate::{
    Context, Result, error, http, ports,
    process::{self, Process, Recipe},
    progress::say,
    servers::{Durability, Install, Installed, Postgres, RabbitMq, Redis, find_or_install},
    settings::Given,
    wiring::{ROOM, SERVICES, Wiring, database_of, preferred_port, redis_environment},
    workspace::{self, Claim},
};

/// The mail server of a stack.
const SMTP: &str = "smtp-sink";

/// The properties of a stack.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a question of its own"
)]
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder below `target/`.
    pub name: &'static str,
    /// The treatment of missing servers.
    pub install: Install,
    /// True for one PostgreSQL per service instead of one for all, so that each can be stopped alone.
    pub database_each: bool,
    /// True to compile in failpoints and the consumer's chaos switch.
    pub failpoints: bool,
    /// True for an optimised build, which takes minutes: for figures that are to be kept.
    pub release: bool,
    /// True to run the control room.
    pub room: bool,
    /// Additional settings for all services.
    pub extra: Vec<(String, String)>,
    /// Settings that a person gave, each for the services that read it.
    pub given: Given,
}

/// Servers and services, running.
pub struct Stack {
    /// The folders of the stack.
    pub claim: Claim,
    given: Given,
    /// The addresses and the environment of the services.
    pub wiring: Wiring,
    room: bool,
    postgres: BTreeMap<String, Postgres>,
    rabbitmq: RabbitMq,
    redis: Redis,
    recipes: BTreeMap<String, Recipe>,
    running: BTreeMap<String, Process>,
    /// Servers and services that were stopped on purpose, and are not restarted.
    stopped: Vec<String>,
    /// The number of times that each died by itself in short order.
    deaths: BTreeMap<String, u32>,
    /// Each death that was not a fault of `verify`, with its exit status.
    died: Vec<String>,
    /// True if the programs are optimised.
    release: bool,
}

impl Stack {
    /// Builds the services, starts the servers, and then the services; returns when all services are ready.
    pub fn start(options: &Options) -> Result<Self> {
        let claim = Claim::take(options.name)?;
        let logs = claim.folder.join("logs");
        fs::create_dir_all(&logs).context(logs.display())?;
        say(format!(
            "private servers and services in {}",
            claim.folder.display()
        ));

        // The compiler needs the processor, the installation the network and the disk: both at once.
        let build = Build::start(options)?;
        let mut stack = Self::with_servers(claim, options)?;
        build.wait()?;
        say("built");
        stack.start_services()?;
        Ok(stack)
    }

    fn with_servers(claim: Claim, options: &Options) -> Result<Self> {
        let logs = claim.folder.join("logs");
        let installed = find_or_install(options.install, &logs.join("install.log"))?;
        let folder = claim.folder.clone();

        let rabbit_ports = (ports::prefer(7072)?, ports::prefer(7073)?);
        let rabbitmq = RabbitMq::create(&installed, &claim.data, &logs, &folder, rabbit_ports)?;
        let mut running = BTreeMap::new();
        running.insert("epmd".to_owned(), rabbitmq.start_epmd()?);
        running.insert("rabbitmq".to_owned(), rabbitmq.start()?);
        let redis = Redis::create(&installed, &claim.data, &logs, &folder, Durability::Process)?;
        let mut process = redis.start()?;
        redis.wait(&mut process)?;
        running.insert("redis".to_owned(), process);
        say(format!("Redis listens on port {}", redis.port));

        let (mut postgres, mut databases) = (BTreeMap::new(), BTreeMap::new());
        for (name, services) in postgres_servers(options.database_each) {
            let (server, process) = start_postgres(&installed, &claim, &name)?;
            for service in services {
                databases.insert(service, database_url(service, server.port));
            }
            running.insert(name.clone(), process);
            postgres.insert(name, server);
        }
        say(format!(
            "PostgreSQL listens on port {}",
            postgres.values().next().map_or(0, |server| server.port)
        ));

        let ports = service_ports()?;
        let smtp_port = ports::prefer(7025)?;
        let wiring = Wiring {
            ports,
            databases,
            brokers: broker_urls(rabbitmq.amqp),
            smtp: format!("smtp://127.0.0.1:{smtp_port}"),
            card_processor: None,
            broker_page: Some(format!("http://127.0.0.1:{}", rabbitmq.management)),
            token_file: folder.join("service.token"),
            extra: options.extra.clone(),
        };
        let mut stack = Self {
            claim,
            given: options.given.clone(),
            wiring,
            room: options.room,
            postgres,
            rabbitmq,
            redis,
            recipes: BTreeMap::new(),
            running,
            stopped: Vec::new(),
            deaths: BTreeMap::new(),
            died: Vec::new(),
            release: options.release,
        };
        stack.add_recipes(smtp_port);
        Ok(stack)
    }

    /// Stores the recipes of our programs.
    fn add_recipes(&mut self, smtp_port: u16) {
        for service in SERVICES {
            self.recipe(service, service, self.environment(service));
        }
        if self.room {
            // The control room finds the services and the books by the variables of the tools.
            let mut environment = self.wiring.environment(ROOM);
            environment.extend(self.tools_environment());
            environment.extend_from_slice(self.given.of(ROOM));
            self.recipe(ROOM, ROOM, environment);
        }
        let mails = self.mails().display().to_string();
        let listen = format!("127.0.0.1:{smtp_port}");
        let environment = [("SMTP_SINK_LISTEN", listen), ("SMTP_SINK_FOLDER", mails)];
        self.recipe(
            SMTP,
            SMTP,
            environment
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
        );
    }

    /// Returns the environment of a service.
    fn environment(&self, service: &'static str) -> Vec<(String, String)> {
        let mut environment = self.wiring.environment(service);
        environment.extend(redis_environment(service, &self.redis.url(service)));
        environment.extend_from_slice(self.given.of(service));
        environment
    }

    fn binary(&self, name: &str) -> PathBuf {
        if self.release {
            workspace::release_binary(name)
        } else {
            workspace::binary(name)
        }
    }

    /// Stores the recipe of one of our programs.
    fn recipe(&mut self, name: &str, program: &str, environment: Vec<(String, String)>) {
        let folder = self.claim.folder.clone();
        let recipe = Recipe {
            name: name.to_owned(),
            program: self.binary(program),
            arguments: Vec::new(),
            environment,
            log: folder.join(format!("logs/{name}.log")),
            stack: folder.clone(),
            folder,
            user: None,
            stop: libc::SIGTERM,
        };
        self.recipes.insert(name.to_owned(), recipe);
    }

    fn start_services(&mut self) -> Result {
        let token = Command::new(self.binary("token"))
            .args(["holdfast", "--service", "--hours", "8760"])
            .env_clear()
            .output()
            .context("token")?;
        if !token.status.success() {
            return Err(error(format!(
                "token: {}",
                String::from_utf8_lossy(&token.stderr)
            )));
        }
        fs::write(&self.wiring.token_file, &token.stdout)
            .context(self.wiring.token_file.display())?;
        for name in self.programs().into_iter().chain([SMTP]) {
            self.revive(name)?;
        }
        let (name, mut broker) = self
            .running
            .remove_entry("rabbitmq")
            .ok_or_else(|| error("no broker"))?;
        let answered = self.rabbitmq.wait(&mut broker);
        self.running.insert(name, broker);
        answered?;
        say(format!("RabbitMQ listens on port {}", self.rabbitmq.amqp));
        self.wait_all_ready(Duration::from_secs(60))?;
        say("all services are ready");
        self.write_environment()
    }

    /// Returns the services, and the control room if the stack has it.
    fn programs(&self) -> Vec<&'static str> {
        let room = self.room.then_some(ROOM);
        SERVICES.into_iter().chain(room).collect()
    }

    /// Starts a second process of each service with messages, on the same database and queues: `order-2` beside
    /// `order`. Returns their names when all of them are ready.
    pub fn replicate(&mut self) -> Result<Vec<String>> {
        let mut ports = BTreeMap::new();
        for service in SERVICES {
            if !self.wiring.brokers.contains_key(service) {
                continue;
            }
            let (name, port) = (format!("{service}-2"), ports::free()?);
            let mut environment = self.environment(service);
            environment.push(("HTTP_LISTEN".to_owned(), format!("127.0.0.1:{port}")));
            self.recipe(&name, service, environment);
            self.revive(&name)?;
            ports.insert(name, port);
        }
        for (name, port) in &ports {
            process::wait_for(name, Duration::from_secs(60), || {
                Ok(matches!(http::get(*port, "/health/ready"), Ok((200, _))).then_some(()))
            })?;
        }
        Ok(ports.into_keys().collect())
    }

    /// Starts a server or service that does not run.
    pub fn revive(&mut self, name: &str) -> Result {
        let process = match name {
            "rabbitmq" => self.rabbitmq.start()?,
            "epmd" => self.rabbitmq.start_epmd()?,
            "redis" => self.redis.start()?,
            name => match (self.postgres.get(name), self.recipes.get(name)) {
                (Some(server), _) => server.start()?,
                (None, Some(recipe)) => recipe.start()?,
                (None, None) => return Err(error(format!("there is no {name} in this stack"))),
            },
        };
        self.stopped.retain(|stopped| stopped != name);
        self.running.insert(name.to_owned(), process);
        Ok(())
    }

    /// Kills a server or service by SIGKILL, and leaves it dead until [`Self::revive`].
    pub fn kill(&mut self, name: &str) -> Result {
        let mut process = self
            .running
            .remove(name)
            .ok_or_else(|| error(format!("{name} does not run")))?;
        self.stopped.push(name.to_owned());
        process.kill()
    }

    /// Sends a server or service its signal to stop, and leaves it stopped until [`Self::revive`].
    pub fn stop(&mut self, name: &str) -> Result {
        let mut process = self
            .running
            .remove(name)
            .ok_or_else(|| error(format!("{name} does not run")))?;
        self.stopped.push(name.to_owned());
        process.stop(Duration::from_secs(40))
    }

    /// Returns the names of all servers and services, servers first.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.postgres.keys().cloned().collect();
        names.extend(["rabbitmq", "redis", SMTP].map(str::to_owned));
        names.extend(self.programs().into_iter().map(str::to_owned));
        names
    }

    /// Returns the names of the servers that hold databases.
    pub fn database_servers(&self) -> Vec<String> {
        self.postgres.keys().cloned().collect()
    }

    /// Waits until a service reports that it is ready.
    pub fn wait_ready(&mut self, service: &'static str, patience: Duration) -> Result {
        let port = self.wiring.ports.get(service).copied().unwrap_or(0);
        let mut last = String::new();
        let log = self.claim.folder.join(format!("logs/{service}.log"));
        let ready = process::wait_for(service, patience, || {
            if let Some(status) = self
                .running
                .get_mut(service)
                .map(Process::ended)
                .transpose()?
                .flatten()
            {
                return Err(error(format!(
                    "{service} ended ({status})\n{}",
                    process::tail(&log, 15)
                )));
            }
            match http::get(port, "/health/ready") {
                Ok((200, _)) => Ok(Some(())),
                Ok((_, body)) => {
                    last = body;
                    Ok(None)
                }
                Err(_) => Ok(None),
            }
        });
        ready.map_err(|e| error(format!("{e} {last}\n{}", process::tail(&log, 15))))
    }

    /// Waits until all services are ready.
    pub fn wait_all_ready(&mut self, patience: Duration) -> Result {
        for service in self.programs() {
            self.wait_ready(service, patience)?;
        }
        Ok(())
    }

    /// Restarts the processes that died by themselves, and reports them. To be called repeatedly. Fails if one keeps
    /// dying.
    pub fn supervise(&mut self) -> Result {
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in names {
            let Some(process) = self.running.get_mut(&name) else {
                continue;
            };
            let Some(status) = process.ended()? else {
                continue;
            };
            let lived = process.started.elapsed();
            let deaths = self.deaths.entry(name.clone()).or_default();
            *deaths = if lived > Duration::from_secs(30) {
                1
            } else {
                *deaths + 1
            };
            if *deaths > 5 {
                let log = self.claim.folder.join(format!("logs/{name}.log"));
                return Err(error(format!(
                    "{name} keeps dying ({status})\n{}",
                    process::tail(&log, 20)
                )));
            }
            say(format!("{name} died ({status}); starting it again"));
            self.died.push(format!("{name} ({status})"));
            self.running.remove(&name);
            self.revive(&name)?;
        }
        Ok(())
    }

    /// Returns the processes that died by themselves until now, with their exit status.
    pub fn died(&self) -> Vec<String> {
        self.died.clone()
    }

    /// Returns the folder into which mails are written.
    pub fn mails(&self) -> PathBuf {
        self.claim.folder.join("mails")
    }

    /// Returns the address of the broker's pages.
    pub fn rabbitmq_page(&self) -> String {
        format!("http://127.0.0.1:{}", self.rabbitmq.management)
    }

    /// Runs `rabbitmqctl` on the broker.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> Result {
        self.rabbitmq.control(arguments)
    }

    /// Returns the port of the broker's metrics.
    pub fn rabbitmq_metrics(&self) -> u16 {
        self.rabbitmq.metrics
    }

    /// Runs a statement in a service's database, as superuser: for faults alone.
    pub fn execute(&self, service: &str, statement: &str) -> Result {
        let server = self
            .postgres
            .get(&format!("postgres-{service}"))
            .or_else(|| self.postgres.get("postgres"))
            .ok_or_else(|| error(format!("{service} has no database here")))?;
        server.execute(&database_of(service), statement)
    }

    /// Returns the variables by which `traffic` and `reconcile` find the services and their books.
    pub fn tools_environment(&self) -> Vec<(String, String)> {
        let api = format!(
            "http://auditor:development-auditor@127.0.0.1:{}/api",
            self.rabbitmq.management
        );
        let audit = self
            .wiring
            .databases
            .iter()
            .map(|(service, url)| {
                let (_, place) = url.split_once('@').unwrap_or_default();
                (
                    *service,
                    format!("postgres://auditor:development-auditor@{place}"),
                )
            })
            .collect();
        let mut environment = self.wiring.tools_environment(&api, &audit);
        environment.push(("REDIS_URL".to_owned(), self.redis.url("drills")));
        environment
    }

    /// Returns a command of `load-tests` on this stack.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.binary(name));
        command
            .envs(self.tools_environment())
            .env(process::MARK, &self.claim.folder)
            .current_dir(workspace::root());
        command
    }

    /// Writes the variables of the tools to a file, for a person's shell.
    fn write_environment(&self) -> Result {
        let mut lines =
            vec!["# The addresses of this stack: `source` this file in a shell.".to_owned()];
        let environment = self.tools_environment();
        lines.extend(
            environment
                .iter()
                .map(|(name, value)| format!("export {name}='{value}'")),
        );
        let path = self.claim.folder.join("env");
        fs::write(&path, lines.join("\n")).context(path.display())
    }

    /// Stops the services, then the servers, and removes the servers' data.
    pub fn shut_down(mut self) -> Result {
        let services: Vec<String> = self.recipes.keys().cloned().collect();
        // All at once: each finishes its work in progress.
        for name in &services {
            if let Some(process) = self.running.get(name) {
                process.signal(process.recipe.stop);
            }
        }
        for name in &services {
            if let Some(mut process) = self.running.remove(name) {
                process.stop(Duration::from_secs(45))?;
            }
        }
        // The servers' data are discarded, so they need not shut down.
        for (_, mut process) in std::mem::take(&mut self.running) {
            process.kill()?;
        }
        self.claim.discard_data();
        Ok(())
    }
}

/// Returns the names of the PostgreSQL servers, each with the services whose databases it holds.
fn postgres_servers(database_each: bool) -> Vec<(String, Vec<&'static str>)> {
    if database_each {
        SERVICES
            .iter()
            .map(|service| (format!("postgres-{service}"), vec![*service]))
            .collect()
    } else {
        vec![("postgres".to_owned(), SERVICES.to_vec())]
    }
}

/// Starts a PostgreSQL, with the databases and roles of all services.
fn start_postgres(installed: &Installed, claim: &Claim, name: &str) -> Result<(Postgres, Process)> {
    let server = Postgres::create(
        installed,
        name,
        &claim.data,
        &claim.folder.join("logs"),
        &claim.folder,
        Durability::Process,
    )?;
    let mut process = server.start()?;
    server.wait(&mut process)?;
    server.execute_file(
        "postgres",
        &workspace::root().join("deploy/postgres/roles.sql"),
    )?;
    Ok((server, process))
}

/// Returns the URL of a service's database, for its own role.
fn database_url(service: &str, port: u16) -> String {
    let role = database_of(service);
    format!("postgres://{role}:development-{service}@127.0.0.1:{port}/{role}")
}

/// Returns the broker's URL for each service that sends or receives messages.
fn broker_urls(port: u16) -> BTreeMap<&'static str, String> {
    SERVICES
        .into_iter()
        .chain([ROOM])
        .filter(|service| *service != "card-processor")
        .map(|service| {
            let url = format!("amqp://{service}:development-{service}@127.0.0.1:{port}/holdfast");
            (service, url)
        })
        .collect()
}

/// Returns a free port for each service: its own, if that is free.
fn service_ports() -> Result<BTreeMap<&'static str, u16>> {
    let mut ports = BTreeMap::new();
    for service in SERVICES.into_iter().chain([ROOM]) {
        ports.insert(service, ports::prefer(preferred_port(service))?);
    }
    Ok(ports)
}
