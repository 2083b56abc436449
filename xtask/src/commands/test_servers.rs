//! The servers that tests run on. Each test makes its own databases, virtual hosts and keys there.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    Context, Result, error, ports,
    process::{self, Process},
    servers::{Durability, Install, Installed, Postgres, RabbitMq, Redis, find_or_install},
    workspace::{self, Claim},
};

/// PostgreSQL, RabbitMQ and Redis under one claim. Dropping this kills them.
pub(super) struct TestServers {
    installed: Installed,
    postgres: Postgres,
    rabbitmq: RabbitMq,
    redis: Redis,
    /// The processes, each with the name of its log.
    running: Vec<(&'static str, Process)>,
    logs: PathBuf,
    folder: PathBuf,
}

impl TestServers {
    /// Starts the servers, and returns before they are ready, so that the compiler can use the processor meanwhile.
    pub(super) fn start(claim: &Claim, install: Install) -> Result<Self> {
        let logs = claim.folder.join("logs");
        fs::create_dir_all(&logs).context(logs.display())?;
        let (data, folder) = (&claim.data, &claim.folder);
        let installed = find_or_install(install, &logs.join("install.log"))?;
        let rabbit_ports = (ports::free()?, ports::free()?);
        let rabbitmq = RabbitMq::create(&installed, data, &logs, folder, rabbit_ports)?;
        let epmd = rabbitmq.start_epmd()?;
        let broker = rabbitmq.start()?;
        let (name, durability) = ("postgres", Durability::None);
        let postgres = Postgres::create(&installed, name, data, &logs, folder, durability)?;
        let database = postgres.start()?;
        let redis = Redis::create(&installed, data, &logs, folder, Durability::None)?;
        let locks = redis.start()?;
        Ok(Self {
            running: vec![
                ("postgres", database),
                ("redis", locks),
                ("rabbitmq", broker),
                ("epmd", epmd),
            ],
            installed,
            postgres,
            rabbitmq,
            redis,
            logs,
            folder: folder.clone(),
        })
    }

    /// Waits until each of them is ready.
    pub(super) fn wait(&mut self) -> Result {
        for (name, process) in &mut self.running {
            match *name {
                "postgres" => {
                    self.postgres.wait(process)?;
                    // The auditor's role exists on every server. Tests have their own databases beside those of the
                    // services.
                    let roles = workspace::root().join("deploy/postgres/roles.sql");
                    self.postgres.execute_file("postgres", &roles)?;
                }
                "redis" => self.redis.wait(process)?,
                "rabbitmq" => self.rabbitmq.wait(process)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Sets the variables with the servers' addresses for a command.
    pub(super) fn tell(&self, command: &mut Command) -> Result {
        let temporary = self.folder.join("tmp");
        fs::create_dir_all(&temporary).context(temporary.display())?;
        let (amqp, api) = (self.rabbitmq.amqp, self.rabbitmq.management);
        command
            .env("HOLDFAST_TEST_POSTGRES", self.postgres.superuser())
            .env("HOLDFAST_TEST_AMQP", format!("127.0.0.1:{amqp}"))
            .env(
                "HOLDFAST_TEST_RABBITMQ_API",
                format!("http://admin:development-admin@127.0.0.1:{api}/api"),
            )
            .env("HOLDFAST_TEST_REDIS", self.redis.url("admin"))
            // For tests that need a Redis of their own, to flush, kill or restart it.
            .env("HOLDFAST_TEST_REDIS_SERVER", &self.installed.redis)
            .env(
                "HOLDFAST_TEST_REDIS_LIBRARIES",
                self.installed.libraries().unwrap_or_default(),
            )
            .env(process::MARK, &self.folder)
            // The temporary files of tests are removed with the rest.
            .env("TMPDIR", &temporary)
            // A failing test prints what it saw; a backtrace adds only noise.
            .env("RUST_BACKTRACE", "0");
        Ok(())
    }

    /// Fails with the end of its log if one of them has died.
    pub(super) fn all_run(&mut self) -> Result {
        for (name, process) in &mut self.running {
            if let Some(status) = process.ended()? {
                let log = self.logs.join(format!("{name}.log"));
                return Err(error(format!(
                    "{name} died under the tests ({status})\n{}",
                    process::tail(&log, 20)
                )));
            }
        }
        Ok(())
    }
}
