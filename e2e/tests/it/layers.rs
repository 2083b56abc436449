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
        let modules = list(self.modules);
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

/// Returns names as a cell of a table.
fn list(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
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

/// A layer of a component that uses modules of the service around it, or is used by them.
///
/// A component is a folder of a service that has layers of its own, for one of the service's concerns. Among its files
/// the rules hold as they do among those of a service. Across its border, a layer has only the uses of its door. Files
/// without a rule (`app`, `config`, `lib`) may use a component from outside, and use nothing outside from within.
struct Door {
    service: &'static str,
    component: &'static str,
    layer: &'static str,
    /// Modules of the service that it uses.
    uses: &'static [&'static str],
    /// Layers of the service that use it.
    used_by: &'static [&'static str],
}

impl Door {
    /// Returns the door of a component's layer, if it has one.
    fn of(service: &str, component: &str, layer: &str) -> Option<&'static Self> {
        let is_it = |door: &&Self| {
            (door.service, door.component, door.layer) == (service, component, layer)
        };
        DOORS.iter().find(is_it)
    }

    /// Returns the door as a row of CONTRIBUTING.md.
    fn row(&self) -> String {
        format!(
            "| {}: `{}` | `{}` | {} | {} |",
            self.service,
            self.component,
            self.layer,
            list(self.uses),
            list(self.used_by)
        )
    }
}

const DOORS: [Door; 3] = [
    Door {
        service: "notification",
        component: "webhooks",
        layer: "domain",
        uses: &["domain"],
        used_by: &[],
    },
    Door {
        service: "notification",
        component: "webhooks",
        layer: "commands",
        uses: &["domain"],
        used_by: &["commands"],
    },
    Door {
        service: "notification",
        component: "webhooks",
        layer: "http",
        uses: &[],
        used_by: &["http"],
    },
];

/// Returns true if a folder of a service is a component.
fn is_component(service: &str, folder: &str) -> bool {
    let is_it = |door: &Door| (door.service, door.component) == (service, folder);
    DOORS.iter().any(is_it)
}

/// The layers of a service, and those of its components with the component's name.
type Layers<'a> = BTreeSet<(Option<&'a str>, &'a str)>;

/// A source file of a service.
struct Source {
    service: &'static str,
    /// The component that the file belongs to; `None` outside of every component.
    component: Option<String>,
    /// The first module of its path, below the component: `http` for `src/http/orders.rs`. The component's own name for
    /// its root.
    layer: String,
    module: Vec<String>,
    path: PathBuf,
    text: String,
}

impl Source {
    /// Makes a source file from its path below `src`.
    fn new(service: &'static str, below_src: &Path, path: PathBuf, text: String) -> Self {
        let file = below_src.with_extension("");
        let parts: Vec<String> = file
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        let component = parts.first().filter(|first| is_component(service, first));
        let layer = match &parts[..] {
            [_, layer, ..] if component.is_some() => layer,
            [layer, ..] => layer,
            [] => panic!("{}: a file has a name", path.display()),
        };
        Self {
            service,
            component: component.cloned(),
            layer: layer.clone(),
            module: imports::module(&file),
            path,
            text,
        }
    }

    /// Returns true if the file may use a path of its own service, which begins behind `crate`.
    fn may_use(&self, path: &[String], layers: &Layers<'_>) -> bool {
        let (inside, name) = match path {
            [folder, name, ..] if is_component(self.service, folder) => {
                (Some(folder.as_str()), name.as_str())
            }
            [name, ..] => (None, name.as_str()),
            [] => return true,
        };
        // An item of a root belongs to no layer.
        let is_layer = layers.contains(&(inside, name)) || is_component(self.service, name);
        let rule = RULES.iter().find(|rule| rule.layer == self.layer);
        match (self.component.as_deref(), inside) {
            (Some(from), None) => {
                let door = Door::of(self.service, from, &self.layer);
                !is_layer || name == from || door.is_some_and(|door| door.uses.contains(&name))
            }
            (None, Some(to)) => {
                let by = self.layer.as_str();
                let door = Door::of(self.service, to, name);
                rule.is_none() || door.is_some_and(|door| door.used_by.contains(&by))
            }
            (Some(from), Some(to)) if from != to => false,
            _ => {
                let may = |rule: &Rule| rule.modules.contains(&name);
                !is_layer || name == self.layer || rule.is_none_or(may)
            }
        }
    }

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
        collect(service, &folder, Path::new(""), &mut sources);
    }
    assert!(sources.len() > 40, "only {} files", sources.len());
    sources
}

fn collect(service: &'static str, folder: &Path, above: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        let below = above.join(path.file_name().expect("a name"));
        if path.is_dir() {
            collect(service, &path, &below, sources);
        } else if below.extension().is_some_and(|extension| extension == "rs")
            && !below.ends_with("tests.rs")
        {
            let text = fs::read_to_string(&path).expect("text");
            sources.push(Source::new(service, &below, path, text));
        }
    }
}

/// Returns the uses that break the layers' rules, each with its file.
fn broken(sources: &[Source]) -> BTreeSet<String> {
    let mut broken = BTreeSet::new();
    for source in sources {
        let layers: Layers = sources
            .iter()
            .filter(|other| other.service == source.service)
            .map(|other| (other.component.as_deref(), other.layer.as_str()))
            .collect();
        let rule = RULES.iter().find(|rule| rule.layer == source.layer);
        let crates = crates_of(source.service);
        for path in source.paths() {
            let [first, rest @ ..] = &path[..] else {
                continue;
            };
            let fits = if first == "crate" {
                source.may_use(rest, &layers)
            } else if let Some(rule) = rule.filter(|_| crates.contains(first)) {
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
    broken
}

#[test]
fn layers_use_only_what_is_below_them() {
    let broken = broken(&sources());
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
    let rows: Vec<String> = DOORS.iter().map(Door::row).collect();
    let doors = format!(
        "| component | its file | uses files of its service | is used by |\n| --- | --- | --- | --- |\n{}\n",
        rows.join("\n")
    );
    let path = xtask::workspace::root().join("CONTRIBUTING.md");
    let is = fs::read_to_string(path).expect("the document");
    let wanted = documents::fill(&is, "layers", &table);
    let wanted = documents::fill(&wanted, "components", &doors);
    documents::holds("CONTRIBUTING.md", &wanted);
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
const EDGES: [(&str, &[&str]); 19] = [
    ("backoff", &[]),
    ("bulkhead", &[]),
    ("chaos", &["outbox", "failpoint"]),
    ("circuit_breaker", &[]),
    ("completion", &[]),
    ("deadline", &[]),
    ("distributed_lock", &["backoff"]),
    ("failpoint", &[]),
    ("inbox", &[]),
    ("leased_work", &["backoff", "deadline", "transaction"]),
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
    collect("holdfast", &folder, Path::new(""), &mut sources);
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
    let source = source(
        "order",
        "domain.rs",
        "use super::store::{self, Row}; fn f() { sqlx::query(\"\"); crate::http::g() } \
         #[cfg(test)] mod tests { use reqwest::get; }",
    );
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

/// A component's files are held to the rules of a service's, and to its doors.
#[test]
fn broken_rule_of_a_component_is_found() {
    let sources = [
        ("domain.rs", "use std::time::Duration;"),
        ("store.rs", "use super::webhooks::store::Webhook;"),
        (
            "commands.rs",
            "use crate::{store::Told, webhooks::{Whole, commands::queue, domain::judge}};",
        ),
        ("http.rs", "fn f() { crate::webhooks::http::routes() }"),
        ("consumer.rs", "use crate::webhooks;"),
        (
            "app.rs",
            "use crate::webhooks::{self, Whole, store::Webhook};",
        ),
        (
            "webhooks.rs",
            "mod domain; use self::http::State; use crate::store::Told;",
        ),
        ("webhooks/domain.rs", "use crate::domain::News;"),
        (
            "webhooks/store.rs",
            "use super::{domain::judge, http::State}; use crate::{domain::News, store::Told};",
        ),
        (
            "webhooks/commands/resend.rs",
            "use super::super::store::Webhook; use crate::domain::News; use reqwest::Url;",
        ),
        (
            "webhooks/http.rs",
            "use super::commands::resend; use crate::commands::tell;",
        ),
    ]
    .map(|(below, text)| source("notification", below, text));
    let broken: Vec<String> = broken(&sources).into_iter().collect();
    assert_eq!(
        broken,
        [
            "commands.rs (commands): crate::webhooks::Whole",
            "commands.rs (commands): crate::webhooks::domain::judge",
            "consumer.rs (consumer): crate::webhooks",
            "store.rs (store): crate::webhooks::store::Webhook",
            "webhooks.rs (webhooks): crate::store::Told",
            "webhooks/commands/resend.rs (commands): reqwest::Url",
            "webhooks/http.rs (http): crate::commands::tell",
            "webhooks/store.rs (store): crate::domain::News",
            "webhooks/store.rs (store): crate::store::Told",
            "webhooks/store.rs (store): crate::webhooks::http::State",
        ]
    );
}

fn source(service: &'static str, below_src: &str, text: &str) -> Source {
    let below = Path::new(below_src);
    Source::new(service, below, below.to_path_buf(), text.to_owned())
}
