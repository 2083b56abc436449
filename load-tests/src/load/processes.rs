//! Processor time and memory of each part of the stack, from `/proc`.
//!
//! The processes of a stack carry a mark that `cargo xtask` puts into their environment; those of a container are its
//! first process and what that has started. Descendants belong to the part of their ancestor. A part's processor time
//! is that of its processes and of their children that have ended: PostgreSQL starts a process for each connection.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;

/// The variable with which `cargo xtask` marks the processes of a stack.
const MARK: &str = "HOLDFAST_STACK";
/// The length of a clock tick of `/proc`, in milliseconds: `USER_HZ` is 100 on every architecture that Rust runs on
/// with Linux.
const TICK_MS: u64 = 10;
/// A page of memory, in KiB.
const PAGE_KIB: u64 = 4;

/// The use of the machine by one part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Processor time since it started, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory in MiB, without pages that are shared with a file or another process.
    pub memory_mib: f64,
}

/// The processes to look at.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Those with this mark, as `cargo xtask` starts them.
    Stack(PathBuf),
    /// Containers: the name of each service, and the id of its first process.
    Containers(Vec<(String, u32)>),
    /// None; the reason is given.
    Unknown(String),
}

impl Whose {
    /// Returns the stack that started this process, or else the containers of the compose project, or else a reason why
    /// there are none.
    pub fn find() -> Self {
        if let Some(stack) = std::env::var_os(MARK) {
            return Self::Stack(stack.into());
        }
        match containers() {
            Ok(containers) if containers.is_empty() => {
                Self::Unknown("no container of the compose project runs on this machine".to_owned())
            }
            Ok(containers) => Self::Containers(containers),
            Err(error) => Self::Unknown(error),
        }
    }
}

/// Returns the first process of each container of the compose project `holdfast`, by asking the Docker command line.
fn containers() -> Result<Vec<(String, u32)>, String> {
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output();
        let output = output.map_err(|error| format!("no docker: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    };
    let listed = docker(&[
        "ps",
        "--filter",
        "label=com.docker.compose.project=holdfast",
        "--format",
        "{{.ID}} {{.Label \"com.docker.compose.service\"}}",
    ])?;
    let mut containers = Vec::new();
    for (id, service) in listed.lines().filter_map(|line| line.split_once(' ')) {
        let pid = docker(&["inspect", "--format", "{{.State.Pid}}", id])?;
        // A container that has just ended has none.
        if let Ok(pid) = pid.trim().parse() {
            containers.push((service.to_owned(), pid));
        }
    }
    Ok(containers)
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Clone, Debug, PartialEq)]
struct Stat {
    parent: u32,
    /// Processor time of the process and of its ended children, in ticks.
    ticks: u64,
    /// The ended children's share of that.
    of_children: u64,
}

/// Parses `/proc/PID/stat`. The second field, the name in parentheses, may hold any characters, including parentheses.
fn stat(line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line[line.rfind(')')? + 1..].split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let of_children = number(13)? + number(14)?;
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        ticks: number(11)? + number(12)? + of_children,
        of_children,
    })
}

/// The usage of each part at one moment.
pub type Snapshot = BTreeMap<String, Usage>;

/// The name of the part that stands for all processes outside the stack.
pub const ELSE: &str = "(everything else)";

/// Returns the processes of a stack of `cargo xtask` that run this program.
pub(crate) fn of_stack(stack: &Path, program: &str) -> Vec<u32> {
    let stack = stack.display().to_string();
    all()
        .into_keys()
        .filter(|pid| part(*pid, None) == program && carries(*pid, MARK, &stack))
        .collect()
}

/// Returns true if a process was started with this variable.
pub(crate) fn carries(pid: u32, name: &str, value: &str) -> bool {
    let wanted = format!("{name}={value}").into_bytes();
    std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
        environ
            .split(|byte| *byte == 0)
            .any(|entry| entry == wanted)
    })
}

/// Reads `/proc` now. The parts' names are those of services, `rabbitmq`, `postgres (DATABASE)` and `load generator`.
pub fn snapshot(whose: &Whose) -> Snapshot {
    let stats = all();
    let mut parts = Snapshot::new();
    let roots: HashMap<u32, Option<&str>> = match whose {
        Whose::Unknown(_) => HashMap::new(),
        Whose::Stack(stack) => {
            let stack = stack.display().to_string();
            stats
                .keys()
                .filter(|pid| carries(**pid, MARK, &stack))
                .map(|pid| (*pid, None))
                .collect()
        }
        Whose::Containers(containers) => containers
            .iter()
            .map(|(service, pid)| (*pid, Some(service.as_str())))
            .collect(),
    };
    let own = std::process::id();
    for (pid, stat) in &stats {
        let name = if *pid == own {
            "load generator".to_owned()
        } else {
            // The nearest ancestor that is marked, or is the first process of a container.
            let mut root = *pid;
            while !roots.contains_key(&root) {
                match stats.get(&root) {
                    Some(stat) => root = stat.parent,
                    None => break,
                }
            }
            let Some(service) = roots.get(&root) else {
                continue;
            };
            part(*pid, *service)
        };
        let usage = parts.entry(name).or_default();
        usage.cpu_ms += stat.ticks * TICK_MS;
        usage.memory_mib += memory(*pid);
    }
    if let Some(busy) = machine() {
        let ours: u64 = parts.values().map(|usage| usage.cpu_ms).sum();
        let usage = Usage {
            cpu_ms: busy.saturating_sub(ours),
            memory_mib: 0.0,
        };
        parts.insert(ELSE.to_owned(), usage);
    }
    parts
}

fn all() -> HashMap<u32, Stat> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return HashMap::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, stat(&line)?))
        })
        .collect()
}

/// Returns the name of the part that a process belongs to. `service` is its container's name, if it is in one.
fn part(pid: u32, service: Option<&str>) -> String {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&command).replace('\0', " ");
    // "postgres: order_service order_service 127.0.0.1(40000) idle"
    if let Some(title) = text.strip_prefix("postgres: ") {
        let mut words = title.split_whitespace();
        let (user, database) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        return match user {
            "auditor" => "postgres (the auditor's)".to_owned(),
            user if user == database => format!("postgres ({})", user.replace("_service", "")),
            _ => "postgres (its own)".to_owned(),
        };
    }
    if let Some(service) = service {
        return if service == "postgres" {
            "postgres (its own)".to_owned()
        } else {
            service.to_owned()
        };
    }
    let program = text.split(' ').next().unwrap_or("");
    let name = Path::new(program)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    match name.as_str() {
        "postgres" => "postgres (its own)".to_owned(),
        "beam.smp" | "epmd" | "erl_child_setup" | "inet_gethost" | "rabbitmq-server" | "sh" => {
            "rabbitmq".to_owned()
        }
        _ => name,
    }
}

/// Returns the process's own resident memory, in MiB.
fn memory(pid: u32) -> f64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = pages
        .split_whitespace()
        .skip(1)
        .map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    #[expect(clippy::cast_precision_loss, reason = "kibibytes")]
    let kib = (resident.saturating_sub(shared) * PAGE_KIB) as f64;
    kib / 1024.0
}

/// Returns the time that all processors have been busy since the machine started, in milliseconds.
fn machine() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let mut fields = stat.lines().next()?.split_whitespace().skip(1);
    // user nice system idle iowait irq softirq steal
    let numbers: Vec<u64> = fields
        .by_ref()
        .take(8)
        .filter_map(|f| f.parse().ok())
        .collect();
    let busy: u64 = [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|index| numbers.get(*index))
        .sum();
    Some(busy * TICK_MS)
}

/// Returns the processor time that each part has used between two snapshots, in milliseconds.
pub fn used(before: &Snapshot, after: &Snapshot) -> BTreeMap<String, f64> {
    let mut used: BTreeMap<String, f64> = BTreeMap::new();
    for (name, usage) in after {
        // A new part counts from zero. A restarted one counts too little: its counter has begun anew.
        let before = before.get(name).map_or(0, |usage| usage.cpu_ms);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
        let ms = usage.cpu_ms.saturating_sub(before) as f64;
        used.insert(name.clone(), ms);
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_may_hold_parentheses() {
        let line = "42 (a ) b) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        let expected = Stat {
            parent: 7,
            ticks: 127,
            of_children: 7,
        };
        assert_eq!(stat(line), Some(expected));
        assert_eq!(stat("42 (gone"), None);
    }

    #[test]
    fn snapshot_finds_this_process_and_its_time_grows() {
        let whose = Whose::Unknown("a test".to_owned());
        let before = snapshot(&whose);
        let own = before.get("load generator").expect("this process");
        assert!(own.memory_mib > 0.1, "{own:?}");
        // Spins until the clock has ticked.
        let after = loop {
            let after = snapshot(&whose);
            if after["load generator"].cpu_ms > own.cpu_ms {
                break after;
            }
        };
        assert!(used(&before, &after)["load generator"] >= 10.0);
    }
}
