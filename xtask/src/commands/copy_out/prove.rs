//! Proves that a copy is usable: it builds without a warning, uses each dependency that it declares, and passes its
//! tests.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use super::{
    plan::Plan,
    report::{self, Row},
    sources::{self, Source},
};
use crate::{Context, Result, error, process, workspace};

/// Builds and tests the copy, and counts its tests.
pub(super) fn prove(plan: &Plan<'_>, folder: &Path, target: &Path, log: &Path) -> Result<Row> {
    says_what_it_takes(plan)?;
    if log.exists() {
        fs::remove_file(log).context(log.display())?;
    }
    let cargo = |arguments: &[&str], log: &Path| {
        let mut cargo = workspace::cargo();
        cargo
            .args(arguments)
            .current_dir(folder)
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .env("CARGO_INCREMENTAL", "0")
            .env("RUST_BACKTRACE", "0")
            // A copy must build without warnings. The flag applies to the copy alone: cargo caps the lints of its
            // dependencies.
            .env("RUSTFLAGS", "--deny warnings");
        process::run(&mut cargo, log).context(format!("the copy of {}", plan.pattern))
    };
    // With what it declares and nothing of what its tests need besides.
    cargo(&["check", "--quiet", "--lib"], log)?;
    let unit = log.with_extension("unit.log");
    let doc = log.with_extension("doc.log");
    for (kind, log) in [("--lib", &unit), ("--doc", &doc)] {
        let _ = fs::remove_file(log);
        cargo(&["test", kind], log)?;
    }
    let row = Row {
        pattern: plan.pattern.clone(),
        folders: plan.folders.len(),
        lines_of_code: plan.folders[&plan.pattern]
            .iter()
            .map(Source::lines_of_code)
            .sum(),
        dependencies: plan
            .dependencies
            .values()
            .filter(|dependency| !dependency.optional)
            .count(),
        unit_tests: report::passed(&sources::read(&unit)?),
        doc_tests: report::passed(&sources::read(&doc)?),
        took: Duration::ZERO,
    };
    if row.doc_tests == 0 {
        return Err(error(format!(
            "{} has no example that is compiled",
            plan.pattern
        )));
    }
    versions_are_ours(folder)?;
    Ok(row)
}

/// Checks the paragraph "Copying this", which is all that a person who copies by hand reads. The edges that a feature
/// names are also in the manifest; a folder that is always compiled is named only there.
fn says_what_it_takes(plan: &Plan<'_>) -> Result {
    for (name, sources) in &plan.folders {
        let module = sources
            .iter()
            .find(|source| source.path.ends_with(format!("{name}/mod.rs")));
        for other in plan.always.iter().filter(|other| *other != name) {
            let says = module.is_some_and(|module| module.says_to_copy(other));
            if sources::use_folder(sources, other) && !says {
                return Err(error(format!(
                    "{name} uses {other}, and its \"Copying this\" does not say so"
                )));
            }
        }
    }
    Ok(())
}

/// Checks that every version in the copy's lock file is in ours, so that the copy was built with tested versions.
fn versions_are_ours(folder: &Path) -> Result {
    let ours = locked(&workspace::root())?;
    let theirs = locked(folder)?;
    let other: Vec<String> = theirs
        .difference(&ours)
        .filter(|(_, from)| !from.is_empty())
        .map(|(package, _)| package.clone())
        .collect();
    if other.is_empty() {
        return Ok(());
    }
    Err(error(format!(
        "{}: not the versions of our Cargo.lock: {}",
        folder.display(),
        other.join(", ")
    )))
}

/// Returns the name with version, and the source, of each package of a lock file.
fn locked(folder: &Path) -> Result<BTreeSet<(String, String)>> {
    let text = sources::read(&folder.join("Cargo.lock"))?;
    let packages = text.split("[[package]]").skip(1);
    Ok(packages
        .map(|package| {
            let field = |name: &str| {
                let line = package.lines().find_map(|line| line.strip_prefix(name));
                line.map_or(String::new(), |value| {
                    value.trim_matches([' ', '=', '"']).to_owned()
                })
            };
            (
                format!("{} {}", field("name "), field("version ")),
                field("source "),
            )
        })
        .collect())
}
