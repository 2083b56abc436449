//! The layers' rules of CONTRIBUTING.md, checked on imports and inline paths.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use xtask::wiring::{ROOM, SERVICES};

use crate::{documents, imports};

/// The modules and crates that a layer may use.
struct Rule {
    layer: &'static str,
    /// Modules of the same service, besides itself.
    modules: &'static [&'static str],
    /// Crates that it never uses.
    never: &'static [&'static str],
    /// The only crates that it uses; empty if any may be.
    only: &'static [&'static str],
}

impl Rule {
    /// Returns the rule as a row of CONTRIBUTING.md.
    fn row(&self) -> String {
        let list = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(", ")
        };
        let modules = match self.modules {
            [] => "none".to_owned(),
            modules => list(modules),
        };
        let crates = match (self.only, self.never) {
            ([], []) => "any".to_owned(),
            ([], never) => format!("any but {}", list(never)),
            (only, _) => {
                let pure = PURE.iter().filter(|(name, _)| !only.contains(name));
                let pure = pure.map(|(name, pattern)| format!(", `{name}::{pattern}`"));
                format!("only {}{}", list(only), pure.collect::<String>())
            }
        };
        format!("| `{}` | {modules} | {crates} |", self.layer)
    }
}

/// Patterns that offer a domain data and pure functions, without I/O.
const PURE: [(&str, &str); 1] = [("holdfast", "saga")];

const TRANSPORTS: &[&str] = &["actix_web", "lapin", "reqwest", "lettre"];

const RULES: [Rule; 8] = [
    Rule {
        layer: "domain",
        modules: &[],
        never: &[],
        only: &["std", "serde", "uuid", "time", "contracts", "thiserror"],
    },
    Rule {
        layer: "store",
        modules: &["domain"],
        never: TRANSPORTS,
        only: &[
            "std",
            "serde",
            "serde_json",
            "uuid",
            "time",
            "contracts",
            "thiserror",
            "sqlx",
            "holdfast",
        ],
    },
    Rule {
        layer: "commands",
        modules: &["domain", "store", "error", "config", "template"],
        never: TRANSPORTS,
        only: &[],
    },
    Rule {
        layer: "client",
        modules: &["domain", "config", "error", "store", "commands"],
        never: &["actix_web", "lapin"],
        only: &[],
    },
    Rule {
        layer: "http",
        modules: &["commands", "domain", "store", "error", "client", "config"],
        never: &["lapin", "reqwest", "lettre"],
        only: &[],
    },
    Rule {
        layer: "consumer",
        modules: &["commands", "domain", "store", "error", "config", "template"],
        never: TRANSPORTS,
        only: &[],
    },
    Rule {
        layer: "worker",
        modules: &["commands", "domain", "store", "error", "client", "config"],
        never: TRANSPORTS,
        only: &[],
    },
    Rule {
        layer: "error",
        modules: &["domain", "store"],
        never: &["lapin", "reqwest", "lettre"],
        only: &[],
    },
];

/// A source file of a service.
struct Source {
    service: &'static str,
    /// The first module of its path: `http` for `src/http/orders.rs`.
    layer: String,
    module: Vec<String>,
    path: PathBuf,
    text: String,
}

impl Source {
    /// Returns every path in the file outside test modules: crate or module, and what follows.
    fn paths(&self) -> Vec<Vec<String>> {
        imports::paths(&self.text, &self.module)
    }

    fn place(&self) -> String {
        let root = xtask::workspace::root();
        let path = self.path.strip_prefix(root).unwrap_or(&self.path);
        path.display().to_string()
    }
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for service in SERVICES.into_iter().chain([ROOM]) {
        let folder = xtask::workspace::root().join(format!("services/{service}/src"));
        collect(service, &folder, &[], &mut sources);
    }
    assert!(sources.len() > 40, "only {} files", sources.len());
    sources
}

fn collect(service: &'static str, folder: &Path, above: &[String], sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            collect(service, &path, &[above, &[name]].concat(), sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            let text = fs::read_to_string(&path).expect("text");
            let layer = above.first().unwrap_or(&name).clone();
            let file: PathBuf = above.iter().chain([&name]).collect();
            sources.push(Source {
                service,
                layer,
                module: imports::module(&file),
                path,
                text,
            });
        }
    }
}

#[test]
fn layers_use_only_what_is_below_them() {
    let sources = sources();
    let mut broken = BTreeSet::new();
    for source in &sources {
        let Some(rule) = RULES.iter().find(|rule| rule.layer == source.layer) else {
            continue;
        };
        let modules: BTreeSet<&str> = sources
            .iter()
            .filter(|other| other.service == source.service)
            .map(|other| other.layer.as_str())
            .collect();
        let crates = crates_of(source.service);
        for path in source.paths() {
            let [first, rest @ ..] = &path[..] else {
                continue;
            };
            let fits = if first == "crate" {
                rest.first().is_none_or(|module| {
                    *module == source.layer
                        || rule.modules.contains(&module.as_str())
                        || !modules.contains(module.as_str())
                })
            } else if crates.contains(first) {
                let is_pure = rest
                    .first()
                    .is_some_and(|pattern| PURE.contains(&(first.as_str(), pattern.as_str())));
                !rule.never.contains(&first.as_str())
                    && (rule.only.is_empty() || rule.only.contains(&first.as_str()) || is_pure)
            } else {
                true
            };
            if !fits {
                broken.insert(format!(
                    "{} ({}): {}",
                    source.place(),
                    source.layer,
                    path.join("::")
                ));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Returns the crates that a service depends on, by their names in code.
fn crates_of(service: &str) -> BTreeSet<String> {
    dependencies(&format!("services/{service}"))
        .into_iter()
        .map(|name| name.replace('-', "_"))
        .chain(["std".to_owned(), "tokio".to_owned()])
        .collect()
}

/// Returns the names under `[dependencies]` of a member's manifest.
fn dependencies(member: &str) -> BTreeSet<String> {
    let path = xtask::workspace::root().join(member).join("Cargo.toml");
    let text = fs::read_to_string(&path).expect("a manifest");
    text.lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn services_and_shared_crates_depend_on_no_service() {
    for service in SERVICES.into_iter().chain([ROOM]) {
        for other in SERVICES {
            assert!(
                !dependencies(&format!("services/{service}")).contains(other),
                "{service} depends on {other}"
            );
        }
    }
    for shared in ["contracts", "holdfast", "chassis"] {
        let depends = dependencies(&format!("shared/{shared}"));
        for service in SERVICES {
            assert!(!depends.contains(service), "{shared} depends on {service}");
        }
        assert!(!depends.contains("testkit"), "{shared} depends on testkit");
    }
    let values: BTreeSet<String> = ["serde", "thiserror", "utoipa", "uuid"]
        .map(str::to_owned)
        .into();
    assert_eq!(dependencies("shared/contracts"), values);
    assert!(!dependencies("shared/holdfast").contains("contracts"));
}

/// CONTRIBUTING.md has the rules as they are enforced.
#[test]
fn contributing_lists_the_rules() {
    let rows: Vec<String> = RULES.iter().map(Rule::row).collect();
    let table = format!(
        "| file | other files of its service | crates |\n| --- | --- | --- |\n{}\n",
        rows.join("\n")
    );
    let path = xtask::workspace::root().join("CONTRIBUTING.md");
    let is = fs::read_to_string(path).expect("the document");
    documents::holds("CONTRIBUTING.md", &documents::fill(&is, "layers", &table));
}

/// SQL is in `store` alone.
#[test]
fn sql_is_in_the_store() {
    let mut broken = Vec::new();
    for source in sources() {
        let is_sql = |path: &Vec<String>| {
            path.first().is_some_and(|first| first == "sqlx")
                && path.get(1).is_some_and(|name| name.starts_with("query"))
        };
        if source.layer != "store" && source.paths().iter().any(is_sql) {
            broken.push(source.place());
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

/// The patterns that each pattern may use: a folder is copied with these, and no others.
const EDGES: [(&str, &[&str]); 18] = [
    ("backoff", &[]),
    ("bulkhead", &[]),
    ("chaos", &["outbox", "failpoint"]),
    ("circuit_breaker", &[]),
    ("completion", &[]),
    ("deadline", &[]),
    ("distributed_lock", &["backoff"]),
    ("failpoint", &[]),
    ("inbox", &[]),
    ("lib", &[]),
    (
        "messaging",
        &[
            "backoff",
            "chaos",
            "inbox",
            "outbox",
            "telemetry",
            "transaction",
            "failpoint",
        ],
    ),
    ("outbox", &["backoff", "transaction", "failpoint"]),
    (
        "pipeline",
        &[
            "bulkhead",
            "circuit_breaker",
            "deadline",
            "retry",
            "backoff",
        ],
    ),
    ("retry", &["backoff", "deadline"]),
    ("saga", &["outbox"]),
    ("telemetry", &[]),
    ("tests", &[]),
    ("transaction", &["completion"]),
];

#[test]
fn patterns_use_only_the_patterns_that_they_name() {
    let mut sources = Vec::new();
    let folder = xtask::workspace::root().join("shared/holdfast/src");
    collect("holdfast", &folder, &[], &mut sources);
    let folders: BTreeSet<String> = sources.iter().map(|source| source.layer.clone()).collect();
    let mut broken = BTreeSet::new();
    for source in &sources {
        let (_, edges) = EDGES
            .iter()
            .find(|(folder, _)| *folder == source.layer)
            .unwrap_or_else(|| panic!("EDGES does not list {}", source.layer));
        for path in source.paths() {
            if let [first, pattern, ..] = &path[..]
                && first == "crate"
                && *pattern != source.layer
                && folders.contains(pattern)
                && !edges.contains(&pattern.as_str())
            {
                broken.insert(format!("{}: {}", source.place(), path.join("::")));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn main_is_short() {
    for service in SERVICES.into_iter().chain([ROOM]) {
        let path = format!("services/{service}/src/main.rs");
        let text = fs::read_to_string(xtask::workspace::root().join(path)).expect("a main");
        assert!(text.lines().count() <= 20, "{service}");
    }
}

/// A check of the check itself.
#[test]
fn a_broken_rule_is_found() {
    let source = Source {
        service: "order",
        layer: "domain".to_owned(),
        module: vec!["domain".to_owned()],
        path: PathBuf::new(),
        text: "use super::store::{self, Row}; fn f() { sqlx::query(\"\"); crate::http::g() } \
               #[cfg(test)] mod tests { use reqwest::get; }"
            .to_owned(),
    };
    let paths: Vec<String> = source.paths().iter().map(|path| path.join("::")).collect();
    assert_eq!(
        paths,
        [
            "crate::store::self",
            "crate::store::Row",
            "sqlx::query",
            "crate::http::g"
        ]
    );
}
