//! `cargo xtask copy-out`: each pattern in a crate of its own, with only the dependencies that its feature declares.
//!
//! People do this with this repository, so it is done here for every pattern, and the result is built and tested: the
//! folder and those that it has edges to, in a crate of another name, whose manifest has the dependencies of the
//! feature and no others, in the versions of our `Cargo.lock`.

mod manifest;
mod plan;
mod prove;
mod report;
mod sources;
#[cfg(test)]
mod tests;
mod write;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode, time::Instant};

use lexopt::{Arg, Parser, ValueExt};

use self::{
    plan::{Library, Plan},
    prove::prove,
    report::Row,
    write::write,
};
use crate::{
    Context, Result, error, process,
    progress::{say, show},
    workspace,
};

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let (mut patterns, mut to, mut name) = (Vec::new(), None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("to") => to = Some(PathBuf::from(arguments.value()?)),
            Arg::Long("name") => name = Some(arguments.value()?.string()?),
            Arg::Value(pattern) => patterns.push(pattern.string()?.replace('-', "_")),
            other => return Err(other.unexpected().into()),
        }
    }
    if name.is_some() && patterns.len() != 1 {
        return Err(error("--name is for one pattern"));
    }
    let library = Library::read(&workspace::root())?;
    let place = workspace::target().join("copied-out");
    let folder = match &to {
        Some(folder) => std::env::current_dir()?.join(folder),
        None => place.join("crates"),
    };
    // For the logs and what is built, also where the crates go elsewhere.
    std::fs::create_dir_all(&place).context(place.display())?;
    let plans = library.plans(&patterns)?;
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for plan in &plans {
        let begun = Instant::now();
        let folder = folder.join(&plan.pattern);
        if to.is_some() && folder.exists() {
            return Err(error(format!("{} exists already", folder.display())));
        }
        let name = name
            .clone()
            .unwrap_or_else(|| format!("copied-{}", plan.pattern.replace('_', "-")));
        write(&library, plan, &name, &folder)?;
        say(format!("{}: {}", plan.pattern, summary(plan)));
        let log = place.join(format!("{}.log", plan.pattern));
        match prove(plan, &folder, &place.join("target"), &log) {
            Ok(row) => rows.push(Row {
                took: begun.elapsed(),
                ..row
            }),
            Err(_) if process::is_interrupted() => return Err(error("interrupted")),
            // All patterns that cannot be copied are reported in one run.
            Err(problem) => {
                say(format!("{}: {problem}", plan.pattern));
                failed.push(plan.pattern.as_str());
            }
        }
    }
    show("");
    show(report::table(&rows));
    if to.is_some() {
        show(format!("\nin {}", folder.display()));
    }
    if !failed.is_empty() {
        return Err(error(format!("cannot be copied: {}", failed.join(", "))));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the folders, crates and options of a plan, in a line.
fn summary(plan: &Plan<'_>) -> String {
    let folders: Vec<&str> = plan.folders.keys().map(String::as_str).collect();
    let mut text = format!("folders {}", folders.join(", "));
    let needed = plan
        .dependencies
        .iter()
        .filter(|(_, dependency)| !dependency.optional);
    let needed: Vec<&str> = needed.map(|(name, _)| name.as_str()).collect();
    match needed[..] {
        [] => text.push_str("; no dependencies"),
        _ => {
            let _ = write!(text, "; crates {}", needed.join(", "));
        }
    }
    if !plan.options.is_empty() {
        let options: Vec<&str> = plan.options.keys().map(String::as_str).collect();
        let _ = write!(text, "; can be switched on: {}", options.join(", "));
    }
    text
}
