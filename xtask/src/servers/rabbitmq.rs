//! A private RabbitMQ, and the epmd that its Erlang node needs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Installed, given_to};
use crate::{
    Context, Result, error, ports,
    process::{self, Process, Recipe},
    workspace,
};

/// The files of a broker, in its folder.
const CONFIGURATION: &str = "rabbitmq.conf";
const PLUGINS: &str = "enabled_plugins";
const LOGS: &str = "log";

/// A private RabbitMQ.
#[derive(Debug)]
pub struct RabbitMq {
    /// The port of AMQP, on 127.0.0.1.
    pub amqp: u16,
    /// The port of the management API and pages.
    pub management: u16,
    /// The port of the metrics for Prometheus.
    pub metrics: u16,
    log: PathBuf,
    epmd: Recipe,
    broker: Recipe,
    control: Recipe,
}

impl RabbitMq {
    /// Writes the configuration, to be started. The topology of `deploy/` is loaded before the first connection is
    /// accepted.
    pub fn create(
        installed: &Installed,
        data: &Path,
        logs: &Path,
        stack: &Path,
        (amqp, management): (u16, u16),
    ) -> Result<Self> {
        let (node, epmd_port, metrics) = (ports::free()?, ports::free()?, ports::free()?);
        let folder = data.join("rabbitmq");
        fs::create_dir_all(&folder).context(folder.display())?;
        let own_logs = folder.join(LOGS);
        fs::create_dir_all(&own_logs).context(own_logs.display())?;
        configure(&folder, amqp, management, metrics)?;
        let user = given_to("rabbitmq", &folder)?;

        let mut environment = installed.environment.clone();
        environment.extend(variables(&folder, node, epmd_port));
        let log = logs.join("rabbitmq.log");
        let recipe = |name: &str, program: &Path, arguments: Vec<String>, log: PathBuf| Recipe {
            name: name.to_owned(),
            program: program.to_path_buf(),
            arguments,
            environment: environment.clone(),
            folder: folder.clone(),
            user,
            log,
            stack: stack.to_path_buf(),
            stop: libc::SIGTERM,
        };
        // Without an epmd of ours the node would start a daemon that outlives it.
        let port = epmd_port.to_string();
        let arguments = ["-port", &port, "-address", "127.0.0.1"]
            .map(str::to_owned)
            .to_vec();
        Ok(Self {
            amqp,
            management,
            metrics,
            epmd: recipe("epmd", &installed.epmd, arguments, logs.join("epmd.log")),
            broker: recipe("rabbitmq", &installed.rabbitmq, Vec::new(), log.clone()),
            control: recipe(
                "rabbitmqctl",
                &installed.rabbitmq.with_file_name("rabbitmqctl"),
                Vec::new(),
                logs.join("rabbitmqctl.log"),
            ),
            log,
        })
    }

    /// Starts the node's name server, which stays while the broker comes and goes.
    pub fn start_epmd(&self) -> Result<Process> {
        self.epmd.start()
    }

    /// Starts the broker, also after it was killed: queues and messages are there again.
    pub fn start(&self) -> Result<Process> {
        self.broker.start()
    }

    /// Runs `rabbitmqctl` with these arguments on the running broker.
    pub fn control(&self, arguments: &[&str]) -> Result {
        let mut control = self.control.command()?;
        process::run(control.args(arguments), &self.control.log)
    }

    /// Waits until it accepts connections; the topology is loaded by then.
    pub fn wait(&self, process: &mut Process) -> Result {
        process::wait_for("RabbitMQ", Duration::from_secs(120), || {
            if let Some(status) = process.ended()? {
                return Err(error(format!(
                    "RabbitMQ ended ({status})\n{}",
                    process::tail(&self.log, 25)
                )));
            }
            Ok((ports::answers(self.amqp) && ports::answers(self.management)).then_some(()))
        })
    }
}

/// Writes the topology of `deploy/`, the configuration and the list of plugins.
fn configure(folder: &Path, amqp: u16, management: u16, metrics: u16) -> Result {
    let definitions = folder.join("definitions.json");
    fs::copy(
        workspace::root().join("deploy/rabbitmq/definitions.json"),
        &definitions,
    )
    .context("deploy/rabbitmq/definitions.json")?;
    let settings = format!(
        "listeners.tcp.1 = 127.0.0.1:{amqp}\n\
         management.tcp.ip = 127.0.0.1\n\
         management.tcp.port = {management}\n\
         prometheus.tcp.ip = 127.0.0.1\n\
         prometheus.tcp.port = {metrics}\n\
         load_definitions = {}\n\
         default_vhost = holdfast\n\
         disk_free_limit.absolute = 50MB\n\
         vm_memory_high_watermark.absolute = 1GB\n\
         log.console = true\n\
         log.console.level = info\n\
         log.file = false\n",
        definitions.display()
    );
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).context(path.display())
    };
    write(CONFIGURATION, &settings)?;
    write(PLUGINS, "[rabbitmq_management,rabbitmq_prometheus].\n")
}

/// Returns the variables by which the node and its tools find their files and each other.
fn variables(folder: &Path, node: u16, epmd: u16) -> Vec<(String, String)> {
    let path = |path: &Path| path.display().to_string();
    [
        ("HOME", path(folder)),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
        ("RABBITMQ_NODENAME", "holdfast@localhost".to_owned()),
        ("RABBITMQ_DIST_PORT", node.to_string()),
        ("RABBITMQ_CONFIG_FILE", path(&folder.join(CONFIGURATION))),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", path(&folder.join(PLUGINS))),
        ("RABBITMQ_MNESIA_BASE", path(&folder.join("mnesia"))),
        ("RABBITMQ_LOG_BASE", path(&folder.join(LOGS))),
        ("RABBITMQ_PID_FILE", path(&folder.join("pid"))),
        ("ERL_EPMD_PORT", epmd.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
        ),
        // Makes the script `exec` the broker, so that our child is the broker.
        ("RUNNING_UNDER_SYSTEMD", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
