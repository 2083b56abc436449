//! The stack of `docker-compose.yml`, driven by `docker compose`, for the faults on containers.

use std::{
    fmt::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Context, Result, error, ports, process, workspace};

/// The services that end when their work is done.
const ONE_SHOT: [&str; 1] = ["service-token"];

/// A project of its own, beside any stack that the user runs.
#[derive(Debug)]
pub struct Compose {
    project: &'static str,
    /// The front door's port on 127.0.0.1.
    pub port: u16,
    environment: Vec<(String, String)>,
}

/// A container of the project.
#[derive(Clone, Debug)]
pub struct Container {
    pub id: String,
    /// The service that it runs.
    pub service: String,
    pub name: String,
    state: String,
    status: String,
}

impl Container {
    /// Returns true if it runs, and is healthy if it has a health check.
    pub fn is_well(&self) -> bool {
        self.state == "running" && (self.status.contains("(healthy)") || !self.status.contains('('))
    }
}

impl Compose {
    /// Creates the project `name`, without traffic but the caller's.
    pub fn new(project: &'static str) -> Result<Self> {
        let there = Command::new("docker")
            .args(["compose", "version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            return Err(error(
                "this needs Docker with the Compose plugin; `docker compose version` fails",
            ));
        }
        let port = ports::prefer(18_080)?;
        let set = |name: &str, value: String| (name.to_owned(), value);
        Ok(Self {
            project,
            port,
            environment: vec![
                set("FRONT_DOOR", format!("127.0.0.1:{port}")),
                set("TRAFFIC_RATE", "0".to_owned()),
            ],
        })
    }

    /// Returns the address of the front door.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns a `docker compose` command for this project.
    pub fn command<I: AsRef<str>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new("docker");
        command
            .current_dir(workspace::root())
            .args(["compose", "--project-name", self.project])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        for argument in arguments {
            command.arg(argument.as_ref());
        }
        command
    }

    /// Runs `docker compose` with these arguments, and returns its output.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.command(arguments))
    }

    /// Builds the images, and shows the builder's output.
    pub fn build(&self) -> Result {
        let status = self
            .command(["build"])
            .status()
            .context("docker compose build")?;
        if status.success() {
            Ok(())
        } else {
            Err(error(format!("docker compose build: {status}")))
        }
    }

    /// Runs `docker compose up`, and returns the time until everything was healthy.
    pub fn up(&self, more: &[&str]) -> Result<Duration> {
        let begun = Instant::now();
        let mut arguments = vec!["up", "--detach", "--no-build"];
        arguments.extend(more);
        self.run(&arguments)?;
        self.wait_all_well(Duration::from_secs(180))?;
        Ok(begun.elapsed())
    }

    /// Returns the containers, without those of one-shot services.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let filter = format!("label=com.docker.compose.project={}", self.project);
        let format = "{{.ID}}\t{{.Label \"com.docker.compose.service\"}}\t{{.Names}}\t{{.State}}\t{{.Status}}";
        let listed = docker(&["ps", "--all", "--filter", &filter, "--format", format])?;
        let mut containers: Vec<Container> = listed
            .lines()
            .filter_map(|line| {
                let mut fields = line.split('\t').map(str::to_owned);
                Some(Container {
                    id: fields.next()?,
                    service: fields.next()?,
                    name: fields.next()?,
                    state: fields.next()?,
                    status: fields.next()?,
                })
            })
            .filter(|container| !ONE_SHOT.contains(&container.service.as_str()))
            .collect();
        containers.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(containers)
    }

    /// Waits until every container is well, and returns the time that it took.
    pub fn wait_all_well(&self, patience: Duration) -> Result<Duration> {
        let begun = Instant::now();
        let mut last = String::new();
        process::wait_for("all containers", patience, || {
            let containers = self.containers()?;
            last.clear();
            for ill in containers.iter().filter(|container| !container.is_well()) {
                let _ = write!(last, " {} ({} {})", ill.name, ill.state, ill.status);
            }
            Ok((!containers.is_empty() && last.is_empty()).then_some(()))
        })
        .map_err(|e| error(format!("{e}:{last}")))?;
        Ok(begun.elapsed())
    }

    /// Returns a `traffic` command of this machine, through the front door.
    pub fn traffic(&self) -> Command {
        let mut command = Command::new(workspace::binary("traffic"));
        command.current_dir(workspace::root());
        for service in crate::wiring::SERVICES {
            command.env(
                format!("{}_URL", service.to_uppercase().replace('-', "_")),
                format!("{}/api/{service}", self.url()),
            );
        }
        command
    }

    /// Runs `docker compose run --rm reconcile`, with the ids of accepted orders as its input, and returns its report.
    pub fn reconcile(&self, within: Duration, journal: Option<&str>) -> Result<String> {
        let within = within.as_secs().to_string();
        let mut command = self.command(["run", "--rm", "-T", "reconcile", "--within", &within]);
        if journal.is_some() {
            command.args(["--journal", "-"]);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("docker compose run reconcile")?;
        if let (Some(mut input), Some(journal)) = (child.stdin.take(), journal) {
            std::io::Write::write_all(&mut input, journal.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let report = String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned();
        if output.status.success() {
            Ok(report)
        } else {
            let told = String::from_utf8_lossy(&output.stderr)
                .trim_end()
                .to_owned();
            Err(error(format!("the books do not agree\n{report}\n{told}")))
        }
    }

    /// Removes the containers, and with `data` their volumes.
    pub fn down(&self, data: bool) -> Result {
        let mut arguments = vec!["--profile", "tools", "down", "--remove-orphans"];
        if data {
            arguments.push("--volumes");
        }
        self.run(&arguments).map(drop)
    }
}

impl Drop for Compose {
    fn drop(&mut self) {
        // A failed run leaves no containers; its findings were printed.
        let _ = self.down(true);
    }
}

/// Runs `docker` with these arguments, and returns its output.
pub fn docker(arguments: &[&str]) -> Result<String> {
    output(Command::new("docker").args(arguments).stdin(Stdio::null()))
}

/// Runs a command to its end, and returns its output. If it fails, its error output is the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().context(command.get_program().display())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    } else {
        let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        Err(error(format!(
            "{} {}: {}\n{}",
            command.get_program().display(),
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        )))
    }
}
