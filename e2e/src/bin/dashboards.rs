//! Queries a running Prometheus for every expression of a dashboard or rule: a panel over a metric that no service
//! records is as quiet as one over a healthy system.
//!
//! `cargo run -p e2e --bin dashboards -- --prometheus http://127.0.0.1:8080/prometheus`

use std::{fs, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use clap::Parser;
use serde_json::Value;

/// The expressions that may have no series, each with the reason.
const MAY_BE_EMPTY: [(&str, &str); 1] = [(
    "ALERTS{alertstate=\"firing\"}",
    "nothing fires in good health",
)];

/// Checks that every expression of deploy/grafana/dashboards, and of the rules that Prometheus has loaded, has series
#[derive(Parser)]
struct Arguments {
    /// The base URL of Prometheus
    #[arg(
        long,
        env = "PROMETHEUS_URL",
        default_value = "http://127.0.0.1:8080/prometheus"
    )]
    prometheus: String,
    /// The folder with the dashboards
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/dashboards"))]
    dashboards: String,
}

/// A PromQL expression, and the panel or rule that it comes from.
struct Asked {
    place: String,
    expression: String,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        prometheus,
        dashboards,
    } = Arguments::parse();
    // An error means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()?;
    let mut asked = of_dashboards(Path::new(&dashboards))?;
    ensure!(!asked.is_empty(), "no dashboards in {dashboards}");
    asked.extend(of_rules(&client, &prometheus).await?);

    let mut empty = 0;
    for Asked { place, expression } in &asked {
        let answer = ask(&client, &prometheus, "query", &[("query", expression)])
            .await
            .with_context(|| format!("{place}: {expression}"))?;
        let series = answer["result"].as_array().map_or(0, Vec::len);
        let excuse = MAY_BE_EMPTY
            .iter()
            .find(|(known, _)| known == expression)
            .map(|(_, why)| *why);
        let verdict = match (series, excuse) {
            (0, None) => {
                empty += 1;
                "EMPTY".to_owned()
            }
            (0, Some(why)) => format!("none, as {why}"),
            (series, _) => series.to_string(),
        };
        println!("{verdict:>5}  {place}: {}", expression.replace('\n', " "));
    }
    println!(
        "{} expressions, of them {empty} without series",
        asked.len()
    );
    Ok(if empty == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns the expressions of every panel, with Grafana's variables filled in.
fn of_dashboards(folder: &Path) -> anyhow::Result<Vec<Asked>> {
    let mut asked = Vec::new();
    let mut files: Vec<_> = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    for path in files {
        let dashboard: Value = serde_json::from_slice(&fs::read(&path)?)
            .with_context(|| path.display().to_string())?;
        let title = dashboard["title"].as_str().unwrap_or_default();
        let panels = dashboard["panels"].as_array().cloned().unwrap_or_default();
        for panel in &panels {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().with_context(|| {
                    format!("{}: a target without an expression", path.display())
                })?;
                let expression = expression
                    .replace("$__rate_interval", "1m")
                    .replace("$service", ".+");
                ensure!(
                    !expression.contains('$'),
                    "{expression}: a variable that is not filled in here"
                );
                asked.push(Asked {
                    place: format!("{title} / {}", panel["title"].as_str().unwrap_or_default()),
                    expression,
                });
            }
        }
    }
    Ok(asked)
}

/// Returns the expressions of every loaded rule. An alert has no series while all is well, so its operands are returned
/// instead.
async fn of_rules(client: &reqwest::Client, prometheus: &str) -> anyhow::Result<Vec<Asked>> {
    let loaded = ask(client, prometheus, "rules", &[]).await?;
    let mut asked = Vec::new();
    let groups = loaded["groups"].as_array().cloned().unwrap_or_default();
    for rule in groups
        .iter()
        .flat_map(|group| group["rules"].as_array().into_iter().flatten())
    {
        let name = rule["name"].as_str().unwrap_or_default();
        let query = rule["query"].as_str().unwrap_or_default();
        let expressions = if rule["type"] == "alerting" {
            operands(query)
        } else {
            vec![query.to_owned()]
        };
        asked.extend(expressions.into_iter().map(|expression| Asked {
            place: format!("rule {name}"),
            expression,
        }));
    }
    ensure!(
        !asked.is_empty(),
        "{prometheus} has loaded no rules: deploy/prometheus/rules"
    );
    Ok(asked)
}

/// Returns what an alert compares, without the comparisons: `a` and `b` for `a > 1 and b > 2`.
fn operands(query: &str) -> Vec<String> {
    query
        .replace('\n', " ")
        .split(" or ")
        .flat_map(|part| part.split(" and "))
        .map(|operand| {
            let operand = operand.trim();
            let compared = [" == ", " > "]
                .iter()
                .find_map(|sign| operand.rsplit_once(sign))
                .filter(|(_, limit)| limit.trim().parse::<f64>().is_ok())
                .map_or(operand, |(left, _)| left);
            compared
                .strip_prefix("absent(")
                .and_then(|inner| inner.strip_suffix(')'))
                .unwrap_or(compared)
                .trim()
                .to_owned()
        })
        .collect()
}

/// Calls Prometheus' API, and returns the `data` of its response.
async fn ask(
    client: &reqwest::Client,
    prometheus: &str,
    what: &str,
    form: &[(&str, &str)],
) -> anyhow::Result<Value> {
    let url = format!("{}/api/v1/{what}", prometheus.trim_end_matches('/'));
    let mut url = reqwest::Url::parse(&url)?;
    if !form.is_empty() {
        url.query_pairs_mut().extend_pairs(form);
    }
    let answer = client.get(url).send().await?.text().await?;
    let answer: Value =
        serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer}"))?;
    ensure!(answer["status"] == "success", "{answer}");
    Ok(answer["data"].clone())
}

#[cfg(test)]
mod tests {
    use super::operands;

    #[test]
    fn an_alert_is_split_into_what_it_compares() {
        assert_eq!(operands("max(x) > 0"), ["max(x)"]);
        assert_eq!(
            operands("up{job!=\"y\"} == 0 or absent(up{job=\"z\"})"),
            ["up{job!=\"y\"}", "up{job=\"z\"}"]
        );
        assert_eq!(
            operands("a:ratio > 0.05\nand b:rate2m > 0.05"),
            ["a:ratio", "b:rate2m"]
        );
    }
}
