//! The metrics and alerts in the documents, compared with those that the code records and the rules use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use xtask::workspace::root;

use crate::documents::{fill, holds};

/// A metric, as the code describes and records it.
#[derive(Default)]
struct Metric {
    kind: String,
    about: String,
    labels: BTreeSet<String>,
    /// The crates that record it.
    recorded_by: BTreeSet<String>,
}

/// Returns every source file of the services and of the shared crates except testkit, each with its crate.
fn sources() -> Vec<(String, String)> {
    fn collect(folder: &Path, crate_name: &str, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, crate_name, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                found.push((crate_name.to_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    for group in ["services", "shared"] {
        for entry in fs::read_dir(root().join(group))
            .expect("a folder")
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let source = entry.path().join("src");
            if source.is_dir() && name != "testkit" {
                collect(&source, &name, &mut found);
            }
        }
    }
    found
}

/// Returns the string literals of a macro's arguments, up to its closing parenthesis, each with whether `=>` follows
/// it.
fn literals(arguments: &str) -> Vec<(String, bool)> {
    let (mut found, mut depth, mut rest) = (Vec::new(), 1, arguments);
    while depth > 0 {
        let Some(at) = rest.find(['(', ')', '"']) else {
            break;
        };
        let sign = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match sign {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {
                let end = (0..rest.len())
                    .find(|end| rest.as_bytes()[*end] == b'"' && !rest[..*end].ends_with('\\'))
                    .expect("a literal ends");
                let text: Vec<&str> = rest[..end].split("\\\n").map(str::trim_start).collect();
                rest = &rest[end + 1..];
                found.push((text.concat(), rest.trim_start().starts_with("=>")));
            }
        }
    }
    found
}

/// Returns every metric that is described or recorded.
fn metrics() -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for (crate_name, text) in sources() {
        for kind in ["counter", "gauge", "histogram"] {
            for (at, found) in text.match_indices(&format!("{kind}!(")) {
                let described = text[..at].ends_with("describe_");
                let literals = literals(&text[at + found.len()..]);
                let Some((name, false)) = literals.first() else {
                    panic!("{crate_name}: a {kind} without a name: {literals:?}");
                };
                let metric = metrics.entry(name.clone()).or_default();
                assert!(
                    metric.kind.is_empty() || metric.kind == kind,
                    "{name} is a {} and a {kind}",
                    metric.kind
                );
                kind.clone_into(&mut metric.kind);
                if described {
                    assert!(metric.about.is_empty(), "{name} is described twice");
                    metric.about.clone_from(&literals[1].0);
                } else {
                    metric.recorded_by.insert(crate_name.clone());
                    let labels = literals.iter().filter(|(_, is_label)| *is_label);
                    metric.labels.extend(labels.map(|(label, _)| label.clone()));
                }
            }
        }
    }
    metrics
}

#[test]
fn documented_metrics_match_the_code() {
    let metrics = metrics();
    let head = "| metric | kind | labels | what | recorded by |\n| --- | --- | --- | --- | --- |\n";
    let mut table = vec![head.to_owned()];
    for (name, metric) in &metrics {
        assert!(
            !metric.about.is_empty(),
            "{name} is recorded and not described"
        );
        assert!(
            !metric.recorded_by.is_empty(),
            "{name} is described and not recorded"
        );
        let is_total = name.ends_with("_total");
        assert_eq!(
            metric.kind == "counter",
            is_total,
            "{name} is a {}",
            metric.kind
        );
        let list = |items: &BTreeSet<String>| {
            let items: Vec<String> = items.iter().map(|item| format!("`{item}`")).collect();
            items.join(", ")
        };
        table.push(format!(
            "| `{name}` | {} | {} | {} | {} |\n",
            metric.kind,
            list(&metric.labels),
            metric.about,
            list(&metric.recorded_by),
        ));
    }
    let path = "docs/observability.md";
    let is = fs::read_to_string(root().join(path)).expect("the document exists");
    holds(path, &fill(&is, "metrics", &table.concat()));
}

/// Returns the rest of every line that begins with `key`, in all files of a folder.
fn listed(folder: &str, key: &str) -> BTreeSet<String> {
    let files = fs::read_dir(root().join(folder))
        .expect("a folder")
        .flatten();
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file.path()).expect("text");
        let names = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key));
        found.extend(names.map(|name| name.trim().to_owned()));
    }
    found
}

#[test]
fn every_alert_has_a_unit_test_and_a_runbook_entry() {
    let alerts = listed("deploy/prometheus/rules", "- alert: ");
    assert!(alerts.len() > 10, "{alerts:?}");
    let links = listed("deploy/prometheus/rules", "runbook_url: docs/runbook.md#");
    let anchors: BTreeSet<String> = alerts.iter().map(|alert| alert.to_lowercase()).collect();
    assert_eq!(links, anchors);

    let runbook = fs::read_to_string(root().join("docs/runbook.md")).expect("the runbook");
    let entries: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    assert_eq!(entries, alerts);

    let tests = listed("deploy/prometheus/tests", "- name: ");
    for alert in &alerts {
        for what in ["fires", "does not fire"] {
            let begin = format!("{alert} {what}");
            assert!(
                tests.iter().any(|name| name.starts_with(&begin)),
                "deploy/prometheus/tests has no {begin:?}"
            );
        }
    }
}

/// Returns the place of a panel: x, y, width, height.
fn place(panel: &Value) -> [u64; 4] {
    ["x", "y", "w", "h"].map(|side| {
        panel["gridPos"][side]
            .as_u64()
            .unwrap_or_else(|| panic!("no {side}: {}", panel["title"]))
    })
}

#[test]
fn dashboards_are_valid_and_show_recorded_metrics() {
    let folder: PathBuf = root().join("deploy/grafana");
    let sources = fs::read_to_string(folder.join("provisioning/datasources/datasources.yml"))
        .expect("the datasources");
    let recorded = listed("deploy/prometheus/rules", "- record: ");
    let known = metrics();
    let mut uids = BTreeSet::new();
    for file in fs::read_dir(folder.join("dashboards"))
        .expect("a folder")
        .flatten()
    {
        let name = file.path().display().to_string();
        let board: Value =
            serde_json::from_slice(&fs::read(file.path()).expect("bytes")).expect("JSON");
        assert!(
            uids.insert(board["uid"].as_str().expect("a uid").to_owned()),
            "{name}"
        );
        assert!(board["schemaVersion"].as_u64() >= Some(39), "{name}");
        let (mut ids, mut places) = (BTreeSet::new(), Vec::<[u64; 4]>::new());
        for panel in board["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            assert!(
                ids.insert(panel["id"].as_u64()),
                "{name}: {title}: an id twice"
            );
            let [x, y, w, h] = place(panel);
            assert!(
                w > 0 && h > 0 && x + w <= 24,
                "{name}: {title}: off the grid"
            );
            for [x2, y2, w2, h2] in &places {
                let apart = x >= x2 + w2 || *x2 >= x + w || y >= y2 + h2 || *y2 >= y + h;
                assert!(apart, "{name}: {title}: covers another");
            }
            places.push([x, y, w, h]);
            if panel["type"] == "row" {
                continue;
            }
            assert_ne!(
                panel["description"].as_str().unwrap_or_default(),
                "",
                "{name}: {title}"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{name}: {title}"
            );
            let uid = panel["datasource"]["uid"].as_str().expect("a datasource");
            assert!(
                sources.contains(&format!("uid: {uid}\n")),
                "{name}: {title}: {uid}"
            );
            for target in panel["targets"].as_array().expect("targets") {
                let expression = target["expr"].as_str().expect("an expression");
                for word in names(expression) {
                    assert!(
                        recorded.contains(&word) || known.contains_key(&word) || is_foreign(&word),
                        "{name}: {title}: no code records {word}"
                    );
                }
            }
        }
    }
    assert_eq!(uids.len(), 4);
}

/// Returns whether Prometheus itself or the broker records this metric.
fn is_foreign(name: &str) -> bool {
    ["up", "ALERTS"].contains(&name) || name.starts_with("rabbitmq_")
}

/// Returns the metrics in an expression: words that are neither functions nor labels nor durations. A histogram is
/// returned under its own name.
fn names(expression: &str) -> BTreeSet<String> {
    let mut plain = String::new();
    let mut outside = true;
    // Every second part is a literal.
    let unquoted: Vec<&str> = expression.split('"').step_by(2).collect();
    for c in unquoted.concat().chars() {
        match c {
            '{' | '[' => outside = false,
            '}' | ']' => outside = true,
            c if outside => plain.push(c),
            _ => {}
        }
    }
    // `by (a, b)`: labels.
    let mut rest = plain.as_str();
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once(" by (") {
        text += before;
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text += rest;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = BTreeSet::new();
    for (at, word) in text
        .split(|c: char| !is_word(c))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        .map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
    {
        let is_function = text[at + word.len()..].trim_start().starts_with('(');
        if is_function || ["sum", "max", "min", "or", "and"].contains(&word) {
            continue;
        }
        let own = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| word.strip_suffix(end))
            .unwrap_or(word);
        found.insert(own.to_owned());
    }
    found
}
