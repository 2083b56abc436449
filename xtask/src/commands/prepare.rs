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
        migrate(&postgres, service)?;
        let fresh = claim.folder.join(service);
        write_queries(&postgres, service, &fresh)?;
        let kept = folder_of(service).join(".sqlx");
        if contents(&fresh)? == contents(&kept)? {
            continue;
        }
        stale.push(service);
        if !check {
            replace(&kept, &fresh)?;
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

/// Returns the folder of a service's crate.
fn folder_of(service: &str) -> PathBuf {
    workspace::root().join("services").join(service)
}

/// Makes a service's database, and brings its schema up to date.
fn migrate(postgres: &Postgres, service: &str) -> Result {
    let name = database_of(service);
    postgres.execute("postgres", &format!("create database {name}"))?;
    // Not every service has migrations beside those of the patterns.
    let migrations = folder_of(service).join("migrations");
    if migrations.exists() {
        for migration in sorted(&migrations)? {
            postgres.execute_file(&name, &migration)?;
        }
    }
    Ok(())
}

/// Has the macros of a service check its queries, and write what they learn to `folder`.
fn write_queries(postgres: &Postgres, service: &str, folder: &Path) -> Result {
    fs::create_dir_all(folder).context(folder.display())?;
    let url = format!("{}/{}", postgres.superuser(), database_of(service));
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
        // A setting with a new value makes cargo compile this crate again, and no other: the macros must run.
        .arg(format!(
            "--config=profile.dev.package.{service}.codegen-units={}",
            std::process::id()
        ))
        .env("SQLX_OFFLINE", "false")
        .env("SQLX_OFFLINE_DIR", folder)
        .env("DATABASE_URL", url)
        .status()
        .context("cargo check")?;
    if status.success() {
        Ok(())
    } else {
        Err(error(format!(
            "the queries of {service} do not fit its migrations"
        )))
    }
}

/// Replaces the files of a folder by those of another.
fn replace(kept: &Path, fresh: &Path) -> Result {
    fs::remove_dir_all(kept).or_else(|e| if kept.exists() { Err(e) } else { Ok(()) })?;
    fs::create_dir_all(kept).context(kept.display())?;
    for file in sorted(fresh)? {
        fs::copy(&file, kept.join(file.file_name().unwrap_or_default())).context(file.display())?;
    }
    Ok(())
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
