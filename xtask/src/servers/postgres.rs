//! A private PostgreSQL.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use super::Installed;
use crate::{
    Context, Result, error, ports,
    process::{self, Process, Recipe, User},
    workspace,
};

/// The superuser's password. The server listens only on the loopback interface, and lives as long as the stack.
const PASSWORD: &str = "development";

/// The failures that a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The server being killed, but not a crash of the machine: for stacks whose processes are killed.
    Process,
    /// None: for tests.
    None,
}

/// A private PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    /// The port on 127.0.0.1.
    pub port: u16,
    bin: PathBuf,
    data: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    recipe: Recipe,
}

impl Postgres {
    /// Makes a database cluster in `data`, to be started. `name` distinguishes the clusters of a stack.
    pub fn create(
        installed: &Installed,
        name: &str,
        data: &Path,
        logs: &Path,
        stack: &Path,
        durability: Durability,
    ) -> Result<Self> {
        let port = ports::free()?;
        let cluster = data.join(name);
        let log = logs.join(format!("{name}.log"));
        fs::create_dir_all(&cluster).context(cluster.display())?;
        let password = data.join(format!("{name}.password"));
        fs::write(&password, PASSWORD).context(password.display())?;

        let user = given_to_postgres([&cluster, &password])?;
        let recipe = |program: PathBuf, arguments: Vec<String>| Recipe {
            name: name.to_owned(),
            program,
            arguments,
            environment: installed.environment.clone(),
            folder: data.to_path_buf(),
            user,
            log: log.clone(),
            stack: stack.to_path_buf(),
            stop: libc::SIGINT, // "fast": does not wait for clients
        };
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();

        let mut arguments =
            words("-U postgres --auth=scram-sha-256 --no-sync --encoding=UTF8 --locale=C.UTF-8 -D");
        arguments.extend([
            cluster.display().to_string(),
            format!("--pwfile={}", password.display()),
        ]);
        process::run(
            &mut recipe(installed.postgres.join("initdb"), arguments).command()?,
            &log,
        )
        .context("initdb")?;

        let mut arguments = vec!["-D".to_owned(), cluster.display().to_string()];
        for setting in settings(port, durability) {
            arguments.extend(["-c".to_owned(), setting]);
        }
        let recipe = recipe(installed.postgres.join("postgres"), arguments);
        Ok(Self {
            port,
            bin: installed.postgres.clone(),
            data: cluster,
            log,
            environment: installed.environment.clone(),
            recipe,
        })
    }

    /// Returns the URL for a superuser, without the name of a database.
    pub fn superuser(&self) -> String {
        format!("postgres://postgres:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Starts it, also after it was killed.
    pub fn start(&self) -> Result<Process> {
        // A killed server leaves its lock file. The process that it names has ended, as we have waited for it.
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        self.recipe.start()
    }

    /// Waits until it accepts connections.
    pub fn wait(&self, process: &mut Process) -> Result {
        process::wait_for("PostgreSQL", Duration::from_secs(60), || {
            if let Some(status) = process.ended()? {
                return Err(error(format!(
                    "PostgreSQL ended ({status})\n{}",
                    process::tail(&self.log, 15)
                )));
            }
            Ok((ports::answers(self.port) && self.psql(&["-c", "select 1"]).is_ok()).then_some(()))
        })
    }

    /// Runs the statements of a file.
    pub fn execute_file(&self, database: &str, file: &Path) -> Result {
        self.psql(&["-d", database, "-f", &file.display().to_string()])
            .context(file.display())
    }

    /// Runs a statement.
    pub fn execute(&self, database: &str, statement: &str) -> Result {
        self.psql(&["-d", database, "-c", statement])
            .context(statement)
    }

    fn psql(&self, arguments: &[&str]) -> Result {
        let output = Command::new(self.bin.join("psql"))
            .args([
                "-q",
                "-w",
                "-X",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-U",
                "postgres",
                "-p",
            ])
            .arg(self.port.to_string())
            .args(arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PGPASSWORD", PASSWORD)
            .env("PGCONNECT_TIMEOUT", "3")
            .output()
            .context("psql")?;
        if output.status.success() {
            Ok(())
        } else {
            Err(error(
                String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            ))
        }
    }
}

/// Gives what initdb reads and writes to the user postgres, if this process is root: initdb refuses to run as root.
fn given_to_postgres(paths: [&Path; 2]) -> Result<Option<User>> {
    if !workspace::is_root() {
        return Ok(None);
    }
    let user = User::named("postgres").ok_or_else(|| error("there is no user postgres"))?;
    for path in paths {
        user.own(path)?;
    }
    Ok(Some(user))
}

/// Returns the settings of a server, each as `name=value`.
fn settings(port: u16, durability: Durability) -> Vec<String> {
    let mut settings = vec![format!("port={port}")];
    settings.extend(
        [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "jit=off",
            "max_connections=400",
            // As in docker-compose.yml: in memory or on an SSD, a random page costs little more than the next one.
            "random_page_cost=1.1",
            // A crash of the machine ends the stack, so nothing here has to survive it.
            "fsync=off",
            "full_page_writes=off",
        ]
        .map(str::to_owned),
    );
    if durability == Durability::None {
        settings.push("synchronous_commit=off".to_owned());
    }
    settings
}
