use std::path::PathBuf;

use super::{
    manifest::{self, Dependency},
    plan::Library,
    report,
    sources::{Source, use_folder},
};
use crate::workspace;

fn source(text: &str) -> Source {
    Source {
        path: PathBuf::from("pattern/mod.rs"),
        text: text.to_owned(),
    }
}

#[test]
fn a_dependency_has_the_features_of_both_manifests() {
    let workspace = r#"
        [workspace.dependencies]
        tokio = { version = "1", default-features = false, features = ["sync"] } # comment
        plain = "2"
    "#;
    let member = r#"
        [dependencies]
        plain = { workspace = true, optional = true }
        [dev-dependencies]
        tokio = { workspace = true, features = [
            "test-util", # for paused time
        ] }
        plain.workspace = true
    "#;
    let (workspace, member) = (
        manifest::parse(workspace).expect("TOML"),
        manifest::parse(member).expect("TOML"),
    );
    for (table, name, written) in [
        ("dependencies", "plain", r#"{ version = "2" }"#),
        ("dev-dependencies", "plain", r#"{ version = "2" }"#),
        (
            "dev-dependencies",
            "tokio",
            r#"{ default-features = false, features = ["sync", "test-util"], version = "1" }"#,
        ),
    ] {
        let found = Dependency::find(&member, table, &workspace, name).expect("it is understood");
        assert_eq!(
            found.map(|found| found.to_string()).as_deref(),
            Some(written)
        );
    }
    assert_eq!(
        Dependency::find(&member, "dependencies", &workspace, "tokio").expect("TOML"),
        None
    );
}

#[test]
fn unsupported_toml_is_an_error() {
    for text in [
        "a = \"\"\"x\"\"\"",
        "a = 'x'",
        "a = [1, 2",
        "a = { b = 1",
        "a",
        "[a",
    ] {
        assert!(manifest::parse(text).is_err(), "{text}");
    }
}

#[test]
fn examples_name_the_new_crate() {
    let old = source(
        "//! use holdfast::retry;\n//! # holdfast::x(my_holdfast::y, a::holdfast::z)\n// holdfast/failpoints",
    );
    assert_eq!(
        old.within("copied-retry"),
        "//! use copied_retry::retry;\n//! # copied_retry::x(my_holdfast::y, a::holdfast::z)\n// holdfast/failpoints"
    );
}

#[test]
fn links_in_comments_and_lines_of_tests_do_not_count() {
    let linked = source(
        "//! See [`retry`](crate::retry).\nuse crate::backoff::pause;\n\n#[cfg(test)]\nmod tests {\n    use x;\n}\n",
    );
    assert!(!use_folder(std::slice::from_ref(&linked), "retry"));
    assert!(use_folder(std::slice::from_ref(&linked), "backoff"));
    let grouped = source("use crate::{failpoint, x};\n    failpoint!(\"a.b\");");
    assert!(use_folder(&[grouped], "failpoint"));
    assert_eq!(linked.lines_of_code(), 1);
    let copying =
        source("//! # Copying this\n//!\n//! This folder, `backoff`.\n//!\n//! Not `retry`.");
    assert!(copying.says_to_copy("backoff"));
    assert!(!copying.says_to_copy("retry"));
}

#[test]
fn closing_lines_are_added_up() {
    let log = "running 3 tests\ntest result: ok. 3 passed; 0 failed\n\nall doctests ran\ntest result: ok. 2 passed; 0 failed\n";
    assert_eq!(report::passed(log), 5);
}

#[test]
fn every_pattern_has_a_plan() {
    let library = Library::read(&workspace::root()).expect("the manifests are understood");
    let patterns = library.patterns();
    for expected in ["backoff", "failpoint", "messaging", "telemetry"] {
        assert!(
            patterns.iter().any(|pattern| pattern == expected),
            "{patterns:?}"
        );
    }
    let plan = |pattern: &str| library.plan(pattern).expect("a plan");
    assert!(
        plan("retry")
            .folders
            .keys()
            .eq(["backoff", "deadline", "retry"])
    );
    let leased_work = plan("leased_work");
    assert!(leased_work.folders.keys().eq([
        "backoff",
        "completion",
        "deadline",
        "leased_work",
        "transaction"
    ]));
    // A folder that is always compiled goes along with its users, and its own needs can be switched on.
    let outbox = plan("outbox");
    assert!(outbox.folders.keys().eq([
        "backoff",
        "completion",
        "failpoint",
        "outbox",
        "transaction"
    ]));
    assert!(outbox.options.keys().eq(["failpoints"]));
    assert!(outbox.dependencies["fail"].optional);
    assert!(!outbox.dependencies["sqlx"].optional);
}
