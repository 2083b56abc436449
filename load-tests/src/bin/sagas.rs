//! Lists the sagas of a running stack, shows one of them whole, and takes an operator action; `cargo xtask sagas` runs
//! it.

use clap::{Parser, ValueEnum};
use load_tests::{
    api::{Api, ServiceUrls},
    table,
};
use serde_json::Value;

/// Sagas of a running stack
#[derive(Parser)]
#[command(name = "sagas")]
struct Arguments {
    #[command(flatten)]
    urls: ServiceUrls,
    /// The id of a saga or of an order, to be shown with every step; without it, sagas are listed
    id: Option<String>,
    /// The operator action to take
    #[arg(requires = "note")]
    action: Option<Action>,
    /// The reason, and what was done instead; stored with the operator action
    note: Option<String>,
    /// List only sagas in these phases, separated by commas: running, compensating, stuck, broken, completed,
    /// compensated, abandoned
    #[arg(long)]
    phase: Option<String>,
    /// The number of sagas to list, from 1 to 200
    #[arg(long, default_value_t = 50)]
    limit: u8,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    /// Ask the current step again
    Resume,
    /// Write the current step off, and go on
    Skip,
    /// Write off all steps that remain
    Abandon,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Skip => "skip",
            Self::Abandon => "abandon",
        }
    }
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let api = Api::new(arguments.urls)?;
    let text = match (arguments.id, arguments.action) {
        (None, _) => {
            let phase = arguments
                .phase
                .map(|phase| format!("&phase={phase}"))
                .unwrap_or_default();
            list(
                &api.sagas(&format!("?limit={}{phase}", arguments.limit))
                    .await?,
            )
        }
        (Some(id), None) => whole(&api.saga(&id).await?),
        (Some(id), Some(action)) => {
            // An operator action names one saga: of an order, the one that is shown.
            let saga = text(&api.saga(&id).await?, "id");
            let note = arguments.note.unwrap_or_default();
            whole(&api.operate_saga(&saga, action.name(), &note).await?)
        }
    };
    println!("{text}");
    Ok(())
}

fn list(page: &Value) -> String {
    let sagas = page["sagas"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if sagas.is_empty() {
        return "  no sagas".to_owned();
    }
    let rows: Vec<Vec<String>> = sagas
        .iter()
        .map(|saga| {
            vec![
                text(saga, "id"),
                text(saga, "definition"),
                text(saga, "order_id"),
                text(saga, "phase"),
                in_hand(saga),
                clock(saga, "updated_at"),
                text(saga, "error"),
            ]
        })
        .collect();
    let head = [
        "saga",
        "definition",
        "order",
        "phase",
        "in hand",
        "last moved",
        "error",
    ];
    table::render(&head, &rows)
}

/// Returns the step in hand and its direction: `charge_payment/undo, attempt 3`. Empty if there is none.
fn in_hand(saga: &Value) -> String {
    match (saga["step"].as_str(), saga["direction"].as_str()) {
        (Some(step), Some(direction)) => format!("{step}/{direction}, attempt {}", saga["attempt"]),
        _ => String::new(),
    }
}

fn whole(saga: &Value) -> String {
    let mut lines = vec![
        format!(
            "  {} (version {}) of order {}",
            text(saga, "definition"),
            saga["version"],
            text(saga, "order_id")
        ),
        format!("  saga {}: {}", text(saga, "id"), text(saga, "phase")),
        format!(
            "  began {}, last moved {}",
            clock(saga, "created_at"),
            clock(saga, "updated_at")
        ),
    ];
    for (name, what) in [("cause", "undone because of"), ("error", "error")] {
        if let Some(value) = saga[name].as_str() {
            lines.push(format!("  {what}: {value}"));
        }
    }
    let mut rows = Vec::new();
    for step in array(saga, "steps") {
        let asks = array(step, "asks");
        if asks.is_empty() {
            rows.push(vec![text(step, "name"), text(step, "mark")]);
        }
        for (index, ask) in asks.iter().enumerate() {
            let first = |name| {
                if index == 0 {
                    text(step, name)
                } else {
                    String::new()
                }
            };
            rows.push(vec![
                first("name"),
                first("mark"),
                text(ask, "asked"),
                ask["attempts"].to_string(),
                ask["duration_ms"]
                    .as_i64()
                    .map(|ms| format!("{ms} ms"))
                    .unwrap_or_default(),
                text(ask, "answer"),
                ask["payload"].to_string(),
            ]);
        }
    }
    if !rows.is_empty() {
        let head = [
            "step",
            "is",
            "asked",
            "attempts",
            "answered after",
            "answer",
            "command",
        ];
        for row in &mut rows {
            row.resize(head.len(), String::new());
        }
        lines.extend([String::new(), table::render(&head, &rows)]);
    }
    let remaining: Vec<String> = array(saga, "remaining")
        .iter()
        .map(|left| format!("{}/{}", text(left, "step"), text(left, "asked")))
        .collect();
    if !remaining.is_empty() {
        lines.extend([
            String::new(),
            format!("  remains: {}", remaining.join(", ")),
        ]);
    }
    let rows: Vec<Vec<String>> = array(saga, "deeds")
        .iter()
        .map(|action| {
            ["action", "step", "operator", "note"]
                .map(|name| text(action, name))
                .to_vec()
        })
        .collect();
    if !rows.is_empty() {
        lines.extend([
            String::new(),
            table::render(&["action", "step", "operator", "note"], &rows),
        ]);
    }
    lines.join("\n")
}

fn array<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// Returns the time of day in UTC: `23:04:11.218`.
fn clock(value: &Value, name: &str) -> String {
    let moment = text(value, name);
    let time = moment.split_once('T').map_or("", |(_, time)| time);
    time.trim_end_matches('Z').chars().take(12).collect()
}
