//! The mutants of a pattern, as `shared/holdfast/mutants/PATTERN.md` lists them.

use std::{fs, path::PathBuf};

use crate::{Context, Result, error, workspace};

/// The mutants of one pattern.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) pattern: String,
    /// The sentences under "Guarantee", as headings of the second level.
    pub(super) guarantees: Vec<String>,
    pub(super) mutants: Vec<Mutant>,
}

/// One change that takes a guarantee away.
#[derive(Debug)]
pub(super) struct Mutant {
    pub(super) guarantee: String,
    /// The change in words, a heading of the third level.
    pub(super) title: String,
    /// The path below `shared/holdfast`.
    pub(super) file: String,
    /// The target and the name of the test that must fail: `it inbox::…` or `lib saga::tests::…`.
    pub(super) test: String,
    /// The text that is replaced. It must occur in the file exactly once.
    pub(super) from: String,
    pub(super) to: String,
}

impl Mutant {
    /// Returns the target (`lib` or `it`) and the name of its test.
    pub(super) fn target_and_name(&self) -> (&str, &str) {
        self.test.split_once(' ').unwrap_or(("it", &self.test))
    }

    /// Returns the file's text with the change in it. Fails unless `from` occurs in it exactly once.
    pub(super) fn applied_to(&self, text: &str) -> Result<String> {
        match text.matches(&self.from).count() {
            1 => Ok(text.replacen(&self.from, &self.to, 1)),
            found => Err(error(format!(
                "the mutant {:?} does not apply: its lines stand {found} times in {}",
                self.title, self.file
            ))),
        }
    }
}

impl Book {
    /// Returns every book, ordered by the pattern's name.
    pub(super) fn all() -> Result<Vec<Self>> {
        let folder = folder();
        let entries = fs::read_dir(&folder).context(folder.display())?;
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .filter(|path| {
                path.file_stem()
                    .is_some_and(|stem| stem != "README" && stem != "SURVIVORS")
            })
            .collect();
        paths.sort();
        paths
            .iter()
            .map(|path| {
                let text = fs::read_to_string(path).context(path.display())?;
                let pattern = path.file_stem().unwrap_or_default().to_string_lossy();
                Self::parse(&pattern, &text).context(path.display())
            })
            .collect()
    }

    /// Parses a book: `##` a guarantee, `###` a mutant, a line with its file and its test, and a diff.
    pub(super) fn parse(pattern: &str, text: &str) -> Result<Self> {
        let mut book = Self {
            pattern: pattern.to_owned(),
            guarantees: Vec::new(),
            mutants: Vec::new(),
        };
        let mut in_diff = false;
        for (number, line) in text.lines().enumerate() {
            let wrong = |what: &str| error(format!("line {}: {what}", number + 1));
            if in_diff {
                let mutant = book
                    .mutants
                    .last_mut()
                    .ok_or_else(|| wrong("a diff of no mutant"))?;
                match line.split_at_checked(1) {
                    _ if line == "```" => in_diff = false,
                    Some(("-", rest)) => push_line(&mut mutant.from, rest),
                    Some(("+", rest)) => push_line(&mut mutant.to, rest),
                    Some((" ", rest)) => {
                        push_line(&mut mutant.from, rest);
                        push_line(&mut mutant.to, rest);
                    }
                    None => {
                        push_line(&mut mutant.from, "");
                        push_line(&mut mutant.to, "");
                    }
                    Some(_) => return Err(wrong("a line of a diff begins with +, - or a space")),
                }
            } else if let Some(title) = line.strip_prefix("### ") {
                let guarantee = book.guarantees.last();
                book.mutants.push(Mutant {
                    guarantee: guarantee
                        .ok_or_else(|| wrong("a mutant of no guarantee"))?
                        .clone(),
                    title: title.to_owned(),
                    file: String::new(),
                    test: String::new(),
                    from: String::new(),
                    to: String::new(),
                });
            } else if let Some(guarantee) = line.strip_prefix("## ") {
                book.guarantees.push(guarantee.to_owned());
            } else if line == "```diff" {
                in_diff = true;
            } else if let Some((file, test)) = found_by(line) {
                let mutant = book
                    .mutants
                    .last_mut()
                    .ok_or_else(|| wrong("a test of no mutant"))?;
                (mutant.file, mutant.test) = (file.to_owned(), test.to_owned());
            }
        }
        match book.mutants.iter().find(|mutant| !mutant.is_whole()) {
            None => Ok(book),
            Some(mutant) => Err(error(format!(
                "the mutant {:?} lacks its file, its test (`it NAME` or `lib NAME`), or its diff",
                mutant.title
            ))),
        }
    }
}

impl Mutant {
    fn is_whole(&self) -> bool {
        let has_target = self.test.starts_with("it ") || self.test.starts_with("lib ");
        !self.file.is_empty() && has_target && !self.from.is_empty() && self.from != self.to
    }
}

/// Returns the folder of the books.
pub(super) fn folder() -> PathBuf {
    workspace::root().join("shared/holdfast/mutants")
}

/// Parses a line "`FILE`, found by `TEST`".
fn found_by(line: &str) -> Option<(&str, &str)> {
    let (file, test) = line.split_once(", found by ")?;
    Some((unquoted(file)?, unquoted(test)?))
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`')
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}
