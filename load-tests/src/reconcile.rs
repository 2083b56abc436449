//! Reconcile: proves from the books of all services that nothing was lost.
//!
//! Waits, up to a bound, until every order is at rest and outboxes, queues and outward work are empty. Then reads every
//! service's database, the broker, and the card processor's own ledger, and compares them:
//!
//! - every accepted order exists, and is at rest in one state;
//! - wallet money: all that was paid in is in a wallet, or taken for a confirmed order, or settled by an operator; per
//!   currency;
//! - card money: the card processor's captures less its refunds are the cost of confirmed orders, order by order;
//! - stock: available + reserved + sold + written off = stocked; a confirmed order's goods are sold, a cancelled one's
//!   are neither sold nor reserved;
//! - each effect happened at most once;
//! - each orchestrated order has its saga, which ended as the order did; no saga waits for an operator;
//! - outboxes, queues and parking lots are empty; each ended order has its mail.

mod books;
mod broker;
mod checks;
mod glance;
mod quiescence;
mod sagas;

use std::{collections::HashSet, path::PathBuf, time::Duration};

pub(crate) use books::Backlogs;
pub use books::Books;
pub(crate) use broker::Broker;
use contracts::value::OrderId;
pub use glance::{Check, Glance, Verdict};
pub use quiescence::Unrest;

/// The addresses of the books, for a role that reads the views of the schema `audit`, or the tables, and changes
/// nothing.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Books")]
pub struct Sources {
    /// The order service's database
    #[arg(long, env = "ORDER_DATABASE_URL", hide_env_values = true)]
    pub order_database_url: String,
    /// The payment service's database
    #[arg(long, env = "PAYMENT_DATABASE_URL", hide_env_values = true)]
    pub payment_database_url: String,
    /// The inventory service's database
    #[arg(long, env = "INVENTORY_DATABASE_URL", hide_env_values = true)]
    pub inventory_database_url: String,
    /// The notification service's database
    #[arg(long, env = "NOTIFICATION_DATABASE_URL", hide_env_values = true)]
    pub notification_database_url: String,
    /// The orchestrator's database
    #[arg(long, env = "ORCHESTRATOR_DATABASE_URL", hide_env_values = true)]
    pub orchestrator_database_url: String,
    /// The card processor's database
    #[arg(long, env = "CARD_PROCESSOR_DATABASE_URL", hide_env_values = true)]
    pub card_processor_database_url: String,
    /// The broker's management API, as http://USER:PASSWORD@HOST:PORT/api
    #[arg(long, env = "RABBITMQ_API", hide_env_values = true)]
    pub rabbitmq_api: String,
    /// The broker's virtual host
    #[arg(long, env = "RABBITMQ_VHOST", default_value = "holdfast")]
    pub rabbitmq_vhost: String,
    /// A file with the password for all of them, instead of those in the URLs
    #[arg(long, env = "AUDITOR_PASSWORD_FILE")]
    pub auditor_password_file: Option<PathBuf>,
}

impl Sources {
    /// Returns each URL with the password that is in force, and the variable that it comes from.
    pub fn urls(&self) -> anyhow::Result<Vec<(&'static str, String)>> {
        [
            ("ORDER_DATABASE_URL", &self.order_database_url),
            ("PAYMENT_DATABASE_URL", &self.payment_database_url),
            ("INVENTORY_DATABASE_URL", &self.inventory_database_url),
            ("NOTIFICATION_DATABASE_URL", &self.notification_database_url),
            ("ORCHESTRATOR_DATABASE_URL", &self.orchestrator_database_url),
            (
                "CARD_PROCESSOR_DATABASE_URL",
                &self.card_processor_database_url,
            ),
            ("RABBITMQ_API", &self.rabbitmq_api),
        ]
        .into_iter()
        .map(|(variable, url)| Ok((variable, self.open(url)?)))
        .collect()
    }

    /// Returns `url` with the password that is in force.
    pub(crate) fn open(&self, url: &str) -> anyhow::Result<String> {
        chassis::settings::with_password(url, self.auditor_password_file.as_deref())
    }
}

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule that should hold.
    pub rule: &'static str,
    /// The values that break it.
    pub detail: String,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The figures that were compared, for a person to read.
    pub facts: Vec<String>,
    /// The rules that do not hold; empty if the books agree.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Returns true if the books agree.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, rule: &'static str, detail: impl Into<String>) {
        self.findings.push(Finding {
            rule,
            detail: detail.into(),
        });
    }

    fn fact(&mut self, fact: impl Into<String>) {
        self.facts.push(fact.into());
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for fact in &self.facts {
            writeln!(f, "  {fact}")?;
        }
        for Finding { rule, detail } in &self.findings {
            writeln!(f, "  NOT TRUE: {rule}: {detail}")?;
        }
        match self.findings.len() {
            0 => write!(f, "reconcile: clean"),
            n => write!(f, "reconcile: {n} findings"),
        }
    }
}

/// Rules besides those of the books.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Orders that were accepted, each of which must exist.
    pub accepted: HashSet<OrderId>,
    /// If true, each order that was cancelled by its deadline is a finding: an outage must not lead to one.
    pub none_by_deadline: bool,
}

/// Waits up to `within` until nothing moves, then compares all books.
pub async fn reconcile(
    sources: &Sources,
    within: Duration,
    wanted: &Wanted,
) -> anyhow::Result<Report> {
    let reader = books::Reader::new(sources)?;
    let broker = broker::Broker::new(sources)?;
    let mut report = Report::default();
    let waited = quiescence::wait(&reader, &broker, within).await?;
    match waited.unrest {
        None => report.fact(format!(
            "nothing moves any more, after {:.1} s",
            waited.took.as_secs_f64()
        )),
        Some(unrest) => report.find(
            "everything comes to rest",
            format!("not within {within:?}: {unrest}"),
        ),
    }
    let books = reader.read().await?;
    checks::check(&books, wanted, &mut report);
    Ok(report)
}
