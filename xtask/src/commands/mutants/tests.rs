use std::fs;

use super::{book::Book, generated::numbered};
use crate::workspace;

/// The patterns that must have a mutant for each of their guarantees.
const PATTERNS: [&str; 7] = [
    "circuit_breaker",
    "distributed_lock",
    "inbox",
    "leased_work",
    "messaging",
    "outbox",
    "saga",
];

#[test]
fn each_mutant_still_applies_to_its_file() {
    for book in Book::all().expect("the books can be read") {
        for mutant in &book.mutants {
            let file = workspace::root().join("shared/holdfast").join(&mutant.file);
            let text = fs::read_to_string(&file).expect("the mutant's file");
            if let Err(error) = mutant.applied_to(&text) {
                panic!("{}: {error}", book.pattern);
            }
        }
    }
}

#[test]
fn each_guarantee_has_a_mutant_and_no_other_has() {
    let books = Book::all().expect("the books can be read");
    let named: Vec<&str> = books.iter().map(|book| &*book.pattern).collect();
    assert_eq!(named, PATTERNS);
    for book in &books {
        let promised = promised_by(&book.pattern);
        assert_eq!(book.guarantees, promised, "{}", book.pattern);
        for guarantee in &promised {
            assert!(
                book.mutants
                    .iter()
                    .any(|mutant| mutant.guarantee == *guarantee),
                "{}: no mutant breaks {guarantee:?}",
                book.pattern
            );
        }
    }
}

/// Returns the sentences under "Guarantee" in the documentation of a pattern.
fn promised_by(pattern: &str) -> Vec<String> {
    let module = format!("shared/holdfast/src/{pattern}/mod.rs");
    let text = fs::read_to_string(workspace::root().join(module)).expect("the module");
    let lines: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//!").map(str::trim))
        .skip_while(|line| *line != "# Guarantee")
        .skip(2)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = lines.join(" ");
    paragraph
        .split_inclusive(". ")
        .map(|sentence| sentence.trim_end().to_owned())
        .collect()
}

#[test]
fn a_book_is_read_as_it_is_written() {
    let text = "# Mutants\n\n## It holds.\n\n### It does not\n\n`src/a.rs`, found by `it a::b`\n\n```diff\n kept\n-old\n+new\n\n```\n";
    let book = Book::parse("a", text).expect("a book");
    let mutant = &book.mutants[0];
    assert_eq!(
        (&*mutant.guarantee, &*mutant.title),
        ("It holds.", "It does not")
    );
    assert_eq!(mutant.target_and_name(), ("it", "a::b"));
    assert_eq!(
        (&*mutant.from, &*mutant.to),
        ("kept\nold\n\n", "kept\nnew\n\n")
    );
    let applied = mutant.applied_to("x\nkept\nold\n\ny\n").expect("once");
    assert_eq!(applied, "x\nkept\nnew\n\ny\n");
    assert!(mutant.applied_to("x\n").is_err(), "not there");
    assert!(
        mutant.applied_to("kept\nold\n\nkept\nold\n\n").is_err(),
        "there twice"
    );
}

#[test]
fn incomplete_book_is_refused() {
    for text in [
        "### Of no guarantee\n",
        "## It holds.\n\n### No file\n\n```diff\n-old\n+new\n```\n",
        "## It holds.\n\n### No diff\n\n`src/a.rs`, found by `it a::b`\n",
        "## It holds.\n\n### No target\n\n`src/a.rs`, found by `a::b`\n\n```diff\n-old\n```\n",
        "## It holds.\n\n### No change\n\n`src/a.rs`, found by `it a::b`\n\n```diff\n old\n```\n",
    ] {
        assert!(Book::parse("a", text).is_err(), "{text}");
    }
}

#[test]
fn changes_of_one_name_are_told_apart() {
    let names = ["replace > with <", "replace > with <=", "replace > with <"];
    assert_eq!(
        numbered(names.into_iter().map(str::to_owned)),
        [
            "replace > with <",
            "replace > with <=",
            "replace > with < (2)"
        ]
    );
}
