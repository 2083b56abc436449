//! `cargo xtask test`: every test, on real servers.

use std::{
    fs,
    process::{ExitCode, Stdio},
    time::Duration,
};

use lexopt::Parser;

use super::{exit_code, install};
use crate::{
    Context, Result, error, ports, process,
    progress::say,
    servers::{Durability, Postgres, RabbitMq, Redis, find_or_install},
    workspace::{self, Claim},
};

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let mut no_install = false;
    let mut passed_on = Vec::new();
    for argument in arguments.raw_args()? {
        if argument == "--no-install" && passed_on.is_empty() {
            no_install = true;
        } else {
            passed_on.push(argument);
        }
    }
    let claim = Claim::take("test")?;
    let logs = claim.folder.join("logs");
    fs::create_dir_all(&logs).context(logs.display())?;
    say(format!("private servers in {}", claim.folder.display()));

    // The compiler needs the processor, the servers mostly wait: both at once.
    let cargo = || {
        let mut cargo = workspace::cargo();
        cargo.stdin(Stdio::null());
        cargo
    };
    // The binaries too: e2e starts the services as processes.
    let build_arguments = ["--workspace", "--features", "holdfast/failpoints"];
    // Somebody who names a package wants that one.
    let names_package = passed_on
        .iter()
        .any(|argument| argument == "-p" || argument == "--package");
    let test_arguments = if names_package {
        &build_arguments[1..]
    } else {
        &build_arguments[..]
    };
    let mut binaries = cargo()
        .arg("build")
        .args(build_arguments)
        .arg("--bins")
        .spawn()
        .context("cargo build")?;

    let installed = find_or_install(install(no_install), &logs.join("install.log"))?;
    let rabbit_ports = (ports::free()?, ports::free()?);
    let rabbitmq = RabbitMq::create(&installed, &claim.data, &logs, &claim.folder, rabbit_ports)?;
    let epmd = rabbitmq.start_epmd()?;
    let mut broker = rabbitmq.start()?;
    let postgres = Postgres::create(
        &installed,
        "postgres",
        &claim.data,
        &logs,
        &claim.folder,
        Durability::None,
    )?;
    let mut server = postgres.start()?;
    let redis = Redis::create(
        &installed,
        &claim.data,
        &logs,
        &claim.folder,
        Durability::None,
    )?;
    let mut locks = redis.start()?;
    postgres.wait(&mut server)?;
    // The auditor, as it is everywhere. Tests have databases of their own beside those of the services.
    postgres.execute_file(
        "postgres",
        &workspace::root().join("deploy/postgres/roles.sql"),
    )?;
    redis.wait(&mut locks)?;
    rabbitmq.wait(&mut broker)?;
    say("PostgreSQL, RabbitMQ and Redis answer");

    let built = process::wait_for("cargo build", Duration::from_secs(3600), || {
        Ok(binaries.try_wait()?)
    });
    if !built.inspect_err(|_| drop(binaries.kill()))?.success() {
        return Err(error("cargo build failed"));
    }
    let temporary = claim.folder.join("tmp");
    fs::create_dir_all(&temporary).context(temporary.display())?;
    let mut tests = cargo()
        .arg("test")
        .args(test_arguments)
        .args(passed_on)
        .env("HOLDFAST_TEST_POSTGRES", postgres.superuser())
        .env("HOLDFAST_TEST_AMQP", format!("127.0.0.1:{}", rabbitmq.amqp))
        .env(
            "HOLDFAST_TEST_RABBITMQ_API",
            format!(
                "http://admin:development-admin@127.0.0.1:{}/api",
                rabbitmq.management
            ),
        )
        .env("HOLDFAST_TEST_REDIS", redis.url("admin"))
        // For those who need one of their own, to flush, kill or restart it.
        .env("HOLDFAST_TEST_REDIS_SERVER", &installed.redis)
        .env(
            "HOLDFAST_TEST_REDIS_LIBRARIES",
            installed.libraries().unwrap_or_default(),
        )
        .env(process::MARK, &claim.folder)
        // What tests put into files goes with the rest.
        .env("TMPDIR", &temporary)
        // A failing test says what it saw; where it stood when it gave up is noise.
        .env("RUST_BACKTRACE", "0")
        .spawn()
        .context("cargo test")?;
    let status = process::wait_for("cargo test", Duration::from_secs(6 * 3600), || {
        let servers = [
            ("postgres", &mut server),
            ("rabbitmq", &mut broker),
            ("redis", &mut locks),
        ];
        for (name, process) in servers {
            if let Some(status) = process.ended()? {
                let log = logs.join(format!("{name}.log"));
                return Err(error(format!(
                    "{name} died under the tests ({status})\n{}",
                    process::tail(&log, 20)
                )));
            }
        }
        Ok(tests.try_wait()?)
    });
    if status.is_err() {
        let _ = tests.kill();
        let _ = tests.wait();
    }
    broker.kill()?;
    locks.kill()?;
    server.kill()?;
    drop(epmd);
    // What a test left running carries our mark.
    for pid in process::marked(&claim.folder) {
        say(format!("a test left process {pid} running"));
    }
    claim.discard_data();
    Ok(exit_code(status?))
}
