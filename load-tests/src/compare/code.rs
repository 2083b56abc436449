//! The lines of code that each way takes.

use std::path::Path;

use anyhow::Context;

use crate::table;

/// The files that a reader needs to understand or copy each way, below the checkout.
const TO_READ: [(&str, &str, &[&str]); 5] = [
    (
        "both ways",
        "participants: payment and inventory, their states, transitions and use cases",
        &[
            "services/payment/src/domain.rs",
            "services/payment/src/commands.rs",
            "services/payment/src/commands",
            "services/inventory/src/domain.rs",
            "services/inventory/src/commands.rs",
            "services/inventory/src/commands",
        ],
    ),
    (
        "choreography",
        "the order's part",
        &[
            "services/order/src/domain.rs",
            "services/order/src/commands/choreography.rs",
        ],
    ),
    (
        "orchestration",
        "the order's part",
        &[
            "services/order/src/domain/orchestrated.rs",
            "services/order/src/commands/orchestration.rs",
        ],
    ),
    (
        "orchestration",
        "the two sagas, as data",
        &[
            "services/orchestrator/src/domain.rs",
            "services/orchestrator/src/domain",
        ],
    ),
    (
        "orchestration",
        "what carries sagas out: written once, whatever the sagas",
        &[
            "shared/holdfast/src/saga",
            "services/orchestrator/src/consumer.rs",
            "services/orchestrator/src/commands.rs",
            "services/orchestrator/src/worker.rs",
        ],
    ),
];

/// Returns a table of the lines of code of each part.
pub(super) fn table(root: &Path) -> anyhow::Result<String> {
    let mut rows = Vec::new();
    for (way, what, paths) in TO_READ {
        let mut lines = 0;
        for path in paths {
            lines += count(&root.join(path))?;
        }
        rows.push(vec![way.to_owned(), what.to_owned(), lines.to_string()]);
    }
    Ok(table::render(&["way", "what", "lines"], &rows))
}

/// Returns the number of lines of code in a file, or in all files of a folder except its tests.
fn count(path: &Path) -> anyhow::Result<usize> {
    if path.is_dir() {
        let mut lines = 0;
        for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
            let path = entry?.path();
            let is_code =
                path.is_dir() || path.extension().is_some_and(|extension| extension == "rs");
            let is_test = path
                .file_stem()
                .is_some_and(|name| name == "tests" || name == "testing");
            if is_code && !is_test {
                lines += count(&path)?;
            }
        }
        return Ok(lines);
    }
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    Ok(text.lines().filter(is_code).count())
}
