//! A private Prometheus, with the rules of `deploy/prometheus/` and shorter waits.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Context, Result, error, http, ports,
    process::{self, Process, Recipe},
    workspace,
};

/// A private Prometheus that is running.
#[derive(Debug)]
pub struct Prometheus {
    /// Its HTTP port, on 127.0.0.1; as in compose, all paths are below `/prometheus`.
    pub port: u16,
    _process: Process,
}

impl Prometheus {
    /// Writes a configuration for these jobs, and starts it. The waits (`for:`) and ranges (`[2m]`) of the rules are
    /// divided by `haste`; their thresholds stay.
    pub fn start(
        program: PathBuf,
        folder: &Path,
        logs: &Path,
        stack: &Path,
        jobs: &[(String, u16)],
        broker: u16,
        haste: u32,
    ) -> Result<Self> {
        write_rules(folder, haste)?;
        let port = ports::free()?;
        let path = folder.join("prometheus.yml");
        fs::write(&path, configuration(port, jobs, broker)).context(path.display())?;
        let log = logs.join("prometheus.log");
        let mut process = Recipe {
            name: "prometheus".to_owned(),
            program,
            arguments: vec![
                format!("--config.file={}", path.display()),
                format!("--storage.tsdb.path={}", folder.join("data").display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--web.external-url=/prometheus/".to_owned(),
                "--web.route-prefix=/prometheus/".to_owned(),
            ],
            environment: Vec::new(),
            folder: folder.to_path_buf(),
            user: None,
            log: log.clone(),
            stack: stack.to_path_buf(),
            stop: libc::SIGTERM,
        }
        .start()?;
        process::wait_for("Prometheus", Duration::from_secs(30), || {
            if let Some(status) = process.ended()? {
                return Err(error(format!(
                    "Prometheus ended ({status})\n{}",
                    process::tail(&log, 15)
                )));
            }
            let ready = http::get(port, "/prometheus/-/ready");
            Ok(matches!(ready, Ok((200, _))).then_some(()))
        })?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// Returns true if an expression has any series now.
    pub fn has(&self, expression: &str) -> Result<bool> {
        let query: String = expression
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        let path = format!("/prometheus/api/v1/query?query={query}");
        let (status, body) = http::get(self.port, &path).context("Prometheus")?;
        if status != 200 {
            return Err(error(format!("Prometheus: {status} {body}")));
        }
        Ok(!body.contains("\"result\":[]"))
    }
}

/// Copies the rules of `deploy/prometheus/` to `folder`, with shorter waits and ranges.
fn write_rules(folder: &Path, haste: u32) -> Result {
    let rules = folder.join("rules");
    fs::create_dir_all(&rules).context(rules.display())?;
    let kept = workspace::root().join("deploy/prometheus/rules");
    for entry in fs::read_dir(&kept).context(kept.display())? {
        let file = entry?;
        let text = fs::read_to_string(file.path()).context(file.path().display())?;
        let copy = rules.join(file.file_name());
        fs::write(&copy, hastened(&text, haste)).context(copy.display())?;
    }
    Ok(())
}

/// Returns a configuration that scrapes the jobs, the broker, and Prometheus itself, each every second.
fn configuration(own_port: u16, jobs: &[(String, u16)], broker: u16) -> String {
    let job = |name: &str, port: u16, more: &str| {
        format!(
            "  - job_name: {name}\n{more}    static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]\n"
        )
    };
    let mut configuration = vec![
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n".to_owned(),
        "rule_files: [rules/*.yml]\nscrape_configs:\n".to_owned(),
    ];
    configuration.extend(jobs.iter().map(|(name, port)| job(name, *port, "")));
    let queues = "    metrics_path: /metrics/detailed\n    \
                  params: {family: [queue_coarse_metrics, queue_consumer_count], vhost: [holdfast]}\n";
    let itself = "    metrics_path: /prometheus/metrics\n";
    configuration.extend([
        job("rabbitmq", broker, ""),
        job("rabbitmq-queues", broker, queues),
        job("prometheus", own_port, itself),
    ]);
    configuration.concat()
}

/// Divides the waits and ranges of rules by `haste`, to at least a second.
fn hastened(rules: &str, haste: u32) -> String {
    let shorter = |text: &str| -> Option<String> {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds: u32 = match unit {
            "s" => number.parse().ok()?,
            "m" => number.parse::<u32>().ok()?.checked_mul(60)?,
            _ => return None,
        };
        Some(format!("{}s", (seconds / haste).max(1)))
    };
    let mut hastened = String::new();
    for line in rules.lines() {
        let line = match line.split_once("for: ") {
            Some((before, time)) if before.trim().is_empty() => {
                let time = shorter(time).unwrap_or_else(|| time.to_owned());
                format!("{before}for: {time}")
            }
            _ => {
                let mut parts = line.split('[');
                let mut line = parts.next().unwrap_or_default().to_owned();
                for part in parts {
                    let shortened = part.split_once(']').and_then(|(range, rest)| {
                        shorter(range).map(|range| format!("{range}]{rest}"))
                    });
                    line.push('[');
                    line += shortened.as_deref().unwrap_or(part);
                }
                line
            }
        };
        hastened += &line;
        hastened.push('\n');
    }
    hastened
}

#[cfg(test)]
mod tests {
    use super::hastened;

    #[test]
    fn waits_and_ranges_are_shortened_and_nothing_else() {
        let rules = "      - alert: A\n        expr: |\n          sum(rate(x{y=~\"[a-z]+[.]z\"}[2m])) > 120\n        for: 30s\n";
        let wanted = "      - alert: A\n        expr: |\n          sum(rate(x{y=~\"[a-z]+[.]z\"}[20s])) > 120\n        for: 5s\n";
        assert_eq!(hastened(rules, 6), wanted);
    }
}
