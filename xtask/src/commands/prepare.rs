//! `cargo xtask prepare`: renews `services/*/.sqlx`, which checks queries when there is no database.
//!
//! It does what `cargo sqlx prepare` does, without its installation: the macros write what they learn from a database
//! to `SQLX_OFFLINE_DIR` while they compile.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use lexopt::{Arg, Parser};

use super::install;
use crate::{
    Context, Result, error,
    progress::say,
    servers::{Durability, Postgres, find_or_install},
    wiring::{SERVICES, database_of},
    workspace::{self, Claim},
};

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let mut check = false;
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("check") => check = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let claim = Claim::take("prepare")?;
    let installed = find_or_install(install(false), &claim.folder.join("install.log"))?;
    let postgres = Postgres::create(
        &installed,
        "postgres",
        &claim.data,
        &claim.folder,
        &claim.folder,
        Durability::None,
    )?;
    let mut server = postgres.start()?;
    postgres.wait(&mut server)?;

    let mut stale = Vec::new();
    for service in SERVICES {
        let name = database_of(service);
        postgres.execute("postgres", &format!("create database {name}"))?;
        let crate_folder = workspace::root().join("services").join(service);
        // Not every service has migrations beside those of the patterns.
        let migrations = crate_folder.join("migrations");
        let migrations = if migrations.exists() {
            sorted(&migrations)?
        } else {
            Vec::new()
        };
        for migration in migrations {
            postgres.execute_file(&name, &migration)?;
        }
        let fresh = claim.folder.join(service);
        fs::create_dir_all(&fresh).context(fresh.display())?;
        let url = format!("{}/{name}", postgres.superuser());
        let status = workspace::cargo()
            .args([
                "check",
                "--quiet",
                "--lib",
                "-p",
                service,
                "-p",
                workspace::FEATURES,
            ])
            // A setting with a new value makes cargo compile this crate alone anew: the macros must run.
            .arg(format!(
                "--config=profile.dev.package.{service}.codegen-units={}",
                std::process::id()
            ))
            .env("SQLX_OFFLINE", "false")
            .env("SQLX_OFFLINE_DIR", &fresh)
            .env("DATABASE_URL", url)
            .status()
            .context("cargo check")?;
        if !status.success() {
            return Err(error(format!(
                "the queries of {service} do not fit its migrations"
            )));
        }
        let kept = crate_folder.join(".sqlx");
        if contents(&fresh)? == contents(&kept)? {
            continue;
        }
        stale.push(service);
        if !check {
            fs::remove_dir_all(&kept).or_else(|e| if kept.exists() { Err(e) } else { Ok(()) })?;
            fs::create_dir_all(&kept).context(kept.display())?;
            for file in sorted(&fresh)? {
                fs::copy(&file, kept.join(file.file_name().unwrap_or_default()))
                    .context(file.display())?;
            }
        }
    }
    server.kill()?;
    claim.discard_data();
    match (stale.is_empty(), check) {
        (true, _) => say("services/*/.sqlx are up to date"),
        (false, false) => say(format!(
            "renewed the queries of {}: commit them",
            stale.join(", ")
        )),
        (false, true) => {
            return Err(error(format!(
                "the queries of {} are stale: run `cargo xtask prepare`",
                stale.join(", ")
            )));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).context(folder.display())?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    Ok(files)
}

fn contents(folder: &Path) -> Result<BTreeMap<String, String>> {
    if !folder.exists() {
        return Ok(BTreeMap::new());
    }
    sorted(folder)?
        .into_iter()
        .map(|file| {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            Ok((name, fs::read_to_string(&file).context(file.display())?))
        })
        .collect()
}
