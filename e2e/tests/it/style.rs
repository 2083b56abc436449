//! The rules of CONTRIBUTING.md for comments, names and modules, held for every Rust file. Prints what it counts.
//!
//! It reads text: rustfmt has laid the files out, so that an item ends at the first closing brace in its own column.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::{documents, imports};

/// The longest line of a comment, in columns.
const LONGEST_COMMENT: usize = 120;
/// The longest name of a test, in letters.
const LONGEST_TEST_NAME: usize = 60;
/// The length from which a function is counted as long, in lines.
const LONG_FUNCTION: usize = 60;
/// The fewest words that describe an item.
const FEWEST_WORDS: usize = 3;
/// The largest share of descriptions that begin with a question word, in percent.
const QUESTIONS: usize = 3;

/// Words that begin a question, and no description.
const QUESTION_WORDS: [&str; 10] = [
    "how", "what", "when", "where", "whether", "which", "who", "whom", "whose", "why",
];

/// The sections of a pattern's module documentation.
const SECTIONS: [&str; 4] = ["Problem", "Guarantee", "Failure modes", "Copying this"];

/// Folders of `holdfast` that patterns are built from, which are no patterns themselves.
const NO_PATTERNS: [&str; 2] = ["tests", "failpoint"];

/// A finding: the file, the line, and the text there.
#[derive(Debug)]
struct Finding {
    file: String,
    line: usize,
    text: String,
}

/// The counts and findings of all files.
#[derive(Debug, Default)]
struct Survey {
    files: usize,
    lines: usize,
    docs: usize,
    questions: Vec<Finding>,
    short_docs: Vec<Finding>,
    long_comments: Vec<Finding>,
    long_test_names: Vec<Finding>,
    long_functions: Vec<Finding>,
}

impl Survey {
    /// Counts every Rust file of the workspace.
    fn of_the_workspace() -> Self {
        let mut survey = Self::default();
        for path in rust_files(&xtask::workspace::root()) {
            let text = fs::read_to_string(&path).expect("a file of ours");
            let root = xtask::workspace::root();
            let name = path.strip_prefix(root).expect("below the root");
            survey.add(&name.display().to_string(), &text);
        }
        survey
    }

    fn add(&mut self, file: &str, text: &str) {
        self.files += 1;
        let lines: Vec<&str> = text.lines().collect();
        self.lines += lines.len();
        let finding = |line: usize, text: &str| Finding {
            file: file.to_owned(),
            line: line + 1,
            text: text.to_owned(),
        };
        let mut is_test = false;
        for (place, &line) in lines.iter().enumerate() {
            let code = line.trim_start();
            if code.starts_with("//") && line.chars().count() > LONGEST_COMMENT {
                self.long_comments.push(finding(place, line));
            }
            let above = place.checked_sub(1).and_then(|above| lines.get(above));
            let is_first = above.and_then(|above| doc(above)).is_none();
            if let Some(description) = doc(line).filter(|_| is_first) {
                let has_more = lines.get(place + 1).and_then(|below| doc(below)).is_some();
                self.docs += 1;
                if asks(description) {
                    self.questions.push(finding(place, description));
                }
                if !has_more && description.split_whitespace().count() < FEWEST_WORDS {
                    self.short_docs.push(finding(place, description));
                }
            }
            is_test |= code.starts_with("#[") && code.contains("test") && code.ends_with(']');
            let Some(name) = function(code) else {
                continue;
            };
            if std::mem::take(&mut is_test) && name.len() > LONGEST_TEST_NAME {
                self.long_test_names.push(finding(place, name));
            }
            let length = length(&lines[place..]);
            if length > LONG_FUNCTION {
                let text = format!("{name}: {length} lines");
                self.long_functions.push(finding(place, &text));
            }
        }
    }

    /// The share of descriptions that begin with a question word, in percent, rounded up.
    fn questions_percent(&self) -> usize {
        (100 * self.questions.len()).div_ceil(self.docs.max(1))
    }
}

/// The modules of a crate, and which of them use which.
#[derive(Debug, Default)]
struct Graph {
    uses: BTreeMap<Vec<String>, BTreeSet<Vec<String>>>,
}

impl Graph {
    /// Reads the files below a crate's `src`, without its tests.
    fn of(src: &Path) -> Self {
        let files = rust_files(src).into_iter().filter_map(|path| {
            let below = path.strip_prefix(src).expect("below src").to_path_buf();
            let is_apart = below.starts_with("bin") || below.iter().any(|part| part == "tests");
            let is_test = below.file_stem().is_some_and(|name| name == "tests");
            (!is_apart && !is_test).then(|| (imports::module(&below), path))
        });
        Self::from_texts(files.map(|(module, path)| {
            let text = fs::read_to_string(path).expect("a file of ours");
            (module, text)
        }))
    }

    fn from_texts(files: impl Iterator<Item = (Vec<String>, String)>) -> Self {
        let files: BTreeMap<Vec<String>, String> = files.collect();
        let uses = files.iter().map(|(module, text)| {
            let used = imports::paths(text, module)
                .into_iter()
                .filter_map(|path| {
                    let (first, rest) = path.split_first()?;
                    let child = [&module[..], std::slice::from_ref(first)].concat();
                    let full = if first == "crate" {
                        rest.to_vec()
                    } else if files.contains_key(&child) {
                        [&child[..], rest].concat()
                    } else {
                        return None;
                    };
                    (0..=full.len())
                        .rev()
                        .map(|length| full[..length].to_vec())
                        .find(|module| files.contains_key(module))
                })
                .filter(|used| used != module)
                .collect();
            (module.clone(), used)
        });
        Self {
            uses: uses.collect(),
        }
    }

    /// The groups of modules that use each other, directly or through others. A module that uses an item of one above
    /// it makes no circle: those are counted apart.
    fn circles(&self) -> Vec<Vec<String>> {
        let mut reached: BTreeMap<&Vec<String>, BTreeSet<&Vec<String>>> = BTreeMap::new();
        for module in self.uses.keys() {
            let mut seen = BTreeSet::new();
            let mut ahead = vec![module];
            while let Some(next) = ahead.pop() {
                for used in &self.uses[next] {
                    if !next.starts_with(used) && seen.insert(used) {
                        ahead.push(used);
                    }
                }
            }
            reached.insert(module, seen);
        }
        let groups: BTreeSet<BTreeSet<String>> = reached
            .iter()
            .filter(|(module, seen)| seen.contains(*module))
            .map(|(module, seen)| {
                let together = seen
                    .iter()
                    .filter(|other| reached[*other].contains(*module));
                together.map(|other| other.join("::")).collect()
            })
            .collect();
        groups
            .into_iter()
            .map(|group| group.into_iter().collect())
            .collect()
    }

    /// The modules that use an item of a module above them.
    fn up(&self) -> impl Iterator<Item = &Vec<String>> {
        self.uses.iter().filter_map(|(module, used)| {
            let is_above = |used: &Vec<String>| module.starts_with(used);
            used.iter().any(is_above).then_some(module)
        })
    }
}

/// The text of a line of documentation.
fn doc(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let text = line
        .strip_prefix("///")
        .or_else(|| line.strip_prefix("//!"))?;
    (!text.starts_with('/')).then(|| text.trim())
}

/// Returns whether a description begins with a question word.
fn asks(description: &str) -> bool {
    let first = description.split(|c: char| !c.is_alphanumeric()).next();
    first.is_some_and(|first| QUESTION_WORDS.contains(&first.to_lowercase().as_str()))
}

/// The name of the function that a line begins, if it begins one.
fn function(code: &str) -> Option<&str> {
    let mut words = code.split_inclusive(' ').map(str::trim_end);
    let is_modifier = |word: &&str| {
        word.starts_with("pub") || ["async", "const", "unsafe"].contains(word) || *word == "in"
    };
    let word = words.by_ref().find(|word| !is_modifier(word))?;
    let name = words.next().filter(|_| word == "fn")?;
    name.split(['(', '<']).next()
}

/// The number of lines of the item that the first line begins: to the first closing brace in the same column.
fn length(lines: &[&str]) -> usize {
    let column = |line: &str| line.len() - line.trim_start().len();
    let first = column(lines[0]);
    let ends =
        |line: &&str| column(line) == first && (line.trim_start() == "}" || line.ends_with(';'));
    if lines[0].ends_with(['}', ';']) {
        return 1;
    }
    lines
        .iter()
        .skip(1)
        .position(ends)
        .map_or(1, |last| last + 2)
}

/// Every Rust file below a folder, but for what is built.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn comments_and_names_are_short_and_describe() {
    let survey = Survey::of_the_workspace();
    println!("| counted | number |\n| --- | --- |");
    for (what, number) in [
        ("files", survey.files),
        ("lines", survey.lines),
        ("descriptions", survey.docs),
        (
            "of them beginning with a question word",
            survey.questions.len(),
        ),
        ("the same in percent", survey.questions_percent()),
        ("descriptions of one or two words", survey.short_docs.len()),
        ("lines of comments over 120", survey.long_comments.len()),
        ("names of tests over 60", survey.long_test_names.len()),
        ("functions over 60 lines", survey.long_functions.len()),
    ] {
        println!("| {what} | {number} |");
    }
    for long in &survey.long_functions {
        println!("{}:{}: {}", long.file, long.line, long.text);
    }
    assert!(
        survey.long_comments.is_empty(),
        "{:#?}",
        survey.long_comments
    );
    assert!(
        survey.long_test_names.is_empty(),
        "{:#?}",
        survey.long_test_names
    );
    assert!(survey.short_docs.is_empty(), "{:#?}", survey.short_docs);
    assert!(
        survey.questions_percent() <= QUESTIONS,
        "{:#?}",
        survey.questions
    );
}

/// Modules that use an item of a module above them. The number may only become smaller.
const UP: usize = 62;

#[test]
fn modules_use_each_other_in_one_direction() {
    let (mut circles, mut up) = (Vec::new(), Vec::new());
    for manifest in ["shared", "services"].map(|folder| xtask::workspace::root().join(folder)) {
        for entry in fs::read_dir(manifest).expect("members") {
            let member = entry.expect("an entry").path();
            let graph = Graph::of(&member.join("src"));
            let name = member
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            circles.extend(
                graph
                    .circles()
                    .into_iter()
                    .map(|circle| format!("{name}: {}", circle.join(", "))),
            );
            up.extend(
                graph
                    .up()
                    .map(|module| format!("{name}: {}", module.join("::"))),
            );
        }
    }
    println!("| counted | number |\n| --- | --- |");
    println!("| circles of modules | {} |", circles.len());
    println!(
        "| modules that use an item of one above them | {} |",
        up.len()
    );
    for circle in &circles {
        println!("circle in {circle}");
    }
    for module in &up {
        println!("up from {module}");
    }
    assert!(circles.is_empty(), "{circles:#?}");
    assert!(up.len() <= UP, "{up:#?}");
}

#[test]
fn circle_of_modules_is_found() {
    let file = |module: &[&str], text: &str| {
        let module = module.iter().map(|&part| part.to_owned()).collect();
        (module, text.to_owned())
    };
    let graph = Graph::from_texts(
        [
            file(&[], "mod a; mod b; mod c; pub use a::Thing;"),
            file(&["a"], "use crate::b::Other;"),
            file(&["b"], "mod inner; fn f() { inner::g() }"),
            file(&["b", "inner"], "use crate::a::Thing;"),
            file(&["c"], "use crate::a::Thing;"),
            file(&["c", "d"], "use super::Other;"),
        ]
        .into_iter(),
    );
    assert_eq!(graph.circles(), [["a", "b", "b::inner"]]);
    assert_eq!(graph.up().collect::<Vec<_>>(), [&["c", "d"]]);
}

#[test]
fn pattern_modules_have_their_sections() {
    let folder = xtask::workspace::root().join("shared/holdfast/src");
    let mut missing = Vec::new();
    for entry in fs::read_dir(&folder).expect("the patterns") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if !path.is_dir() || NO_PATTERNS.contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(path.join("mod.rs")).expect("a module");
        for section in SECTIONS {
            if !text.contains(&format!("//! # {section}\n")) {
                missing.push(format!("{name}: {section}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The pages of the patterns have the length of each file.
#[test]
fn pattern_pages_count_the_lines_of_files() {
    let root = xtask::workspace::root();
    for entry in fs::read_dir(root.join("docs/patterns")).expect("the pages") {
        let path = entry.expect("an entry").path();
        let page = fs::read_to_string(&path).expect("a page");
        let lines = page
            .lines()
            .map(|line| counted(line, &root.join("docs/patterns")));
        let wanted: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
        let below = path.strip_prefix(&root).expect("below the root");
        documents::holds(&below.display().to_string(), &wanted);
    }
}

/// Returns a row of a table with the file's length in its second cell, if it is a row of that kind.
fn counted(line: &str, folder: &Path) -> String {
    let row = || {
        let (first, rest) = line.strip_prefix("| [")?.split_once(" | ")?;
        let (number, content) = rest.split_once(" | ")?;
        number.parse::<usize>().ok()?;
        let (_, link) = first.rsplit_once("](")?;
        let file = folder.join(link.strip_suffix(')')?);
        let count = fs::read_to_string(file).ok()?.lines().count();
        Some(format!("| [{first} | {count} | {content}"))
    };
    row().unwrap_or_else(|| line.to_owned())
}

/// The rules find what breaks them.
#[test]
fn broken_rule_of_style_is_found() {
    let mut survey = Survey::default();
    let long = "x".repeat(LONGEST_COMMENT);
    let name = "n".repeat(LONGEST_TEST_NAME + 1);
    let body = "    work();\n".repeat(LONG_FUNCTION);
    survey.add(
        "a.rs",
        &format!(
            "/// Whether it is.\nfn a() {{}}\n\n/// Why.\npub(crate) async fn b() {{\n{body}}}\n\n// {long}\n\
             #[tokio::test]\nasync fn {name}() {{}}\n\n/// Returns it, or\n/// why it is not there.\nfn c() {{}}\n"
        ),
    );
    assert_eq!(survey.docs, 3);
    assert_eq!(survey.questions.len(), 2, "{:?}", survey.questions);
    assert_eq!(survey.short_docs.len(), 1, "{:?}", survey.short_docs);
    assert_eq!(survey.long_comments.len(), 1, "{:?}", survey.long_comments);
    assert_eq!(
        survey.long_test_names.len(),
        1,
        "{:?}",
        survey.long_test_names
    );
    assert_eq!(
        survey.long_functions.len(),
        1,
        "{:?}",
        survey.long_functions
    );
}
