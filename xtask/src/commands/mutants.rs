//! `cargo xtask mutants`: breaks each guarantee of a pattern on purpose, and checks that the test of `holdfast` for it
//! fails.
//!
//! Patterns are copied alone, so a module's guarantees are proved beside it. A mutant is a small change that takes one
//! sentence under "Guarantee" away; it is stored as data in `shared/holdfast/mutants`, with the test that must fail.
//! Mutants are applied in a copy of the workspace. `cargo test -p xtask` checks that the data still fits the code. With
//! `--generated` cargo-mutants makes the changes.

mod book;
mod generated;
#[cfg(test)]
mod tests;
mod working_copy;

use std::{
    fmt::Write as _,
    fs,
    process::{Command, ExitCode, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use lexopt::{Arg, Parser, ValueExt};

use self::{
    book::{Book, Mutant},
    working_copy::WorkingCopy,
};
use super::{install, test_servers::TestServers};
use crate::{
    Context, Result, error, process,
    progress::{say, show},
    workspace::{self, Claim},
};

/// The time limit of all named tests together on the unchanged code.
const UNCHANGED: Duration = Duration::from_secs(600);
/// The time limit of one test. A mutant whose test exceeds it counts as found.
const PATIENCE: Duration = Duration::from_secs(120);

/// The result of trying a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its test failed.
    Found,
    /// Its test exceeded its time limit.
    FoundHanging,
    /// Its test passed, so no test proves the guarantee.
    Survived,
    /// The patched code does not compile, so the mutant proves nothing.
    DoesNotCompile,
}

impl Fate {
    fn name(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::FoundHanging => "found (its test hangs)",
            Self::Survived => "SURVIVED",
            Self::DoesNotCompile => "DOES NOT COMPILE",
        }
    }
}

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let (mut wanted, mut no_install, mut generated) = (Vec::new(), false, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("no-install") => no_install = true,
            Arg::Long("generated") => generated = true,
            Arg::Value(part) => wanted.push(part.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let books = Book::all()?;
    let mutants: Vec<(&Book, &Mutant)> = books
        .iter()
        .flat_map(|book| book.mutants.iter().map(move |mutant| (book, mutant)))
        .filter(|(book, mutant)| {
            wanted.is_empty() || wanted.iter().any(|part| is_named(book, mutant, part))
        })
        .collect();
    if mutants.is_empty() && !generated {
        return Err(error(format!(
            "no mutant is called {}: shared/holdfast/mutants has them",
            wanted.join(", ")
        )));
    }

    let claim = Claim::take("mutants")?;
    let mut servers = TestServers::start(&claim, install(no_install))?;
    let copy = WorkingCopy::prepare()?;
    say(format!(
        "a copy of the workspace in {}",
        copy.root.display()
    ));
    servers.wait()?;
    let mut bench = Bench {
        servers,
        copy,
        log: claim.folder.join("cargo.log"),
    };
    if generated {
        let code = generated::run(&mut bench, &wanted);
        drop(bench);
        claim.discard_data();
        return code;
    }
    bench.passes_unchanged(&mutants)?;
    let fates = bench.try_each(&mutants)?;
    drop(bench);
    claim.discard_data();
    show("");
    show(table(&mutants, &fates));
    let all_found = fates
        .iter()
        .all(|fate| matches!(fate, Fate::Found | Fate::FoundHanging));
    Ok(if all_found {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns true if `part` is the pattern's name, or a part of the mutant's title.
fn is_named(book: &Book, mutant: &Mutant, part: &str) -> bool {
    book.pattern == part.replace('-', "_") || mutant.title.contains(part)
}

/// Patterns that do not use each other: a mutant of one changes nothing for the tests of another, so that one mutant of
/// each is compiled and tried at once.
const APART: [&str; 5] = [
    "circuit_breaker",
    "distributed_lock",
    "inbox",
    "leased_work",
    "saga",
];

/// Groups the mutants' indices into rounds; those of one round are tried at once.
fn rounds(mutants: &[(&Book, &Mutant)]) -> Vec<Vec<usize>> {
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    for (place, (book, _)) in mutants.iter().enumerate() {
        let is_apart = |other: &usize| {
            let other = &mutants[*other].0.pattern;
            *other != book.pattern
                && [other, &book.pattern]
                    .iter()
                    .all(|name| APART.contains(&name.as_str()))
        };
        match rounds.iter_mut().find(|round| round.iter().all(is_apart)) {
            Some(round) => round.push(place),
            None => rounds.push(vec![place]),
        }
    }
    rounds
}

/// The servers, the copy and the log with which mutants are tried.
struct Bench {
    servers: TestServers,
    copy: WorkingCopy,
    /// The output of the last cargo.
    log: std::path::PathBuf,
}

impl Bench {
    /// Runs every named test on the unchanged code, where each must exist and pass: a test that fails anyway would find
    /// every mutant.
    fn passes_unchanged(&mut self, mutants: &[(&Book, &Mutant)]) -> Result {
        let mut tests: Vec<&str> = mutants.iter().map(|(_, mutant)| &*mutant.test).collect();
        tests.sort_unstable();
        tests.dedup();
        for target in ["lib", "it"] {
            let names: Vec<&str> = tests
                .iter()
                .filter_map(|test| test.strip_prefix(target)?.strip_prefix(' '))
                .collect();
            if names.is_empty() {
                continue;
            }
            if !self.succeeds(target, &["--no-run"], Duration::MAX)? {
                return Err(self.failed("the unchanged code does not compile"));
            }
            let arguments = [&["--", "--exact"], &names[..]].concat();
            if !self.succeeds(target, &arguments, UNCHANGED)? {
                return Err(self.failed("a test fails on the unchanged code"));
            }
            let log = fs::read_to_string(&self.log).context(self.log.display())?;
            if let Some(missing) = names
                .iter()
                .find(|name| !log.contains(&format!("test {name} ... ok")))
            {
                return Err(error(format!("there is no test {target} {missing}")));
            }
        }
        say(format!("{} tests pass on the unchanged code", tests.len()));
        Ok(())
    }

    /// Tries every mutant, and prints its fate. Returns the fates in the mutants' order.
    fn try_each(&mut self, mutants: &[(&Book, &Mutant)]) -> Result<Vec<Fate>> {
        let mut fates = vec![Fate::Survived; mutants.len()];
        for round in rounds(mutants) {
            let tried: Vec<&Mutant> = round.iter().map(|&place| mutants[place].1).collect();
            for (place, fate) in round.into_iter().zip(self.try_out(&tried)?) {
                let (book, mutant) = mutants[place];
                say(format!(
                    "{}: {}: {}",
                    book.pattern,
                    mutant.title,
                    fate.name()
                ));
                fates[place] = fate;
            }
        }
        Ok(fates)
    }

    /// Applies mutants, runs the test of each, and takes the mutants back. If they do not compile together, each is
    /// tried alone.
    fn try_out(&mut self, mutants: &[&Mutant]) -> Result<Vec<Fate>> {
        for mutant in mutants {
            self.copy.apply(mutant)?;
        }
        let fates = self.fates(mutants);
        for mutant in mutants {
            self.copy.take_back(mutant)?;
        }
        match fates? {
            Some(fates) => Ok(fates),
            None if mutants.len() == 1 => Ok(vec![Fate::DoesNotCompile]),
            None => {
                let alone = mutants.chunks(1).map(|alone| self.try_out(alone));
                Ok(alone.collect::<Result<Vec<_>>>()?.concat())
            }
        }
    }

    /// Returns the fates of the applied mutants; `None` if they do not compile.
    fn fates(&mut self, mutants: &[&Mutant]) -> Result<Option<Vec<Fate>>> {
        let mut targets: Vec<&str> = mutants
            .iter()
            .map(|mutant| mutant.target_and_name().0)
            .collect();
        targets.sort_unstable();
        targets.dedup();
        for target in targets {
            if !self.succeeds(target, &["--no-run"], Duration::MAX)? {
                return Ok(None);
            }
        }
        let mut fates = Vec::new();
        for mutant in mutants {
            let (target, name) = mutant.target_and_name();
            fates.push(
                match self.cargo(target, &["--", "--exact", name], PATIENCE)? {
                    Some(true) => Fate::Survived,
                    Some(false) => Fate::Found,
                    None => Fate::FoundHanging,
                },
            );
        }
        Ok(Some(fates))
    }

    fn succeeds(&mut self, target: &str, arguments: &[&str], patience: Duration) -> Result<bool> {
        let status = self.cargo(target, arguments, patience)?;
        Ok(status == Some(true))
    }

    /// Runs cargo on a target of `holdfast`. Returns true if it succeeded, and `None` if it was still running after
    /// `patience`.
    fn cargo(
        &mut self,
        target: &str,
        arguments: &[&str],
        patience: Duration,
    ) -> Result<Option<bool>> {
        let output = fs::File::create(&self.log).context(self.log.display())?;
        let mut cargo: Command = workspace::cargo();
        cargo
            .args([
                "test",
                "--package",
                "holdfast",
                "--package",
                workspace::FEATURES,
                "--features",
                "holdfast/failpoints",
            ])
            .args(match target {
                "lib" => &["--lib"][..],
                _ => &["--test", "it"],
            })
            .args(arguments)
            // Many mutants are found by a wait that times out.
            .env("HOLDFAST_SHORT_PATIENCE", "45")
            .stdout(output.try_clone()?)
            .stderr(output);
        let status = self.run_in_copy(&mut cargo, patience)?;
        Ok(status.map(|status| status.success()))
    }

    /// Runs a command that builds and tests the copy. Returns its status, or `None` if it was still running after
    /// `patience`.
    fn run_in_copy(
        &mut self,
        command: &mut Command,
        patience: Duration,
    ) -> Result<Option<ExitStatus>> {
        command
            .current_dir(&self.copy.root)
            // The workspace's dependencies are already built there.
            .env("CARGO_TARGET_DIR", workspace::target())
            // One file changes at a time.
            .env("CARGO_INCREMENTAL", "1")
            .stdin(Stdio::null());
        self.servers.tell(command)?;
        let program = command.get_program().display().to_string();
        // The test runs in a process of its own, which would outlive its cargo.
        let mut group = process::Group::start(command).context(program)?;
        let begun = Instant::now();
        loop {
            if let Some(status) = group.ended()? {
                return Ok(Some(status));
            }
            if begun.elapsed() > patience {
                return Ok(None);
            }
            if process::is_interrupted() {
                return Err(error("interrupted"));
            }
            self.servers.all_run()?;
            process::nap(Duration::from_millis(20));
        }
    }

    fn failed(&self, what: &str) -> crate::Error {
        error(format!("{what}\n{}", process::tail(&self.log, 40)))
    }
}

/// Returns the table of guarantee, mutant, test and fate.
fn table(mutants: &[(&Book, &Mutant)], fates: &[Fate]) -> String {
    let mut text = String::from("| guarantee | mutant | test | |\n| --- | --- | --- | --- |");
    for ((book, mutant), fate) in mutants.iter().zip(fates) {
        let _ = write!(
            text,
            "\n| `{}`: {} | {} | `{}` | {} |",
            book.pattern,
            mutant.guarantee,
            mutant.title,
            mutant.target_and_name().1,
            fate.name()
        );
    }
    let found = fates
        .iter()
        .filter(|fate| matches!(fate, Fate::Found | Fate::FoundHanging))
        .count();
    let _ = write!(text, "\n\n{found} of {} mutants found", fates.len());
    text
}
