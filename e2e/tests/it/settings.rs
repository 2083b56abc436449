//! The configuration reference of `docs/deploy.md` is what the programs' `--help` says.

use std::{collections::BTreeMap, fmt::Write};

use clap::{Arg, Command, CommandFactory};

use crate::documents::{fill, holds};

/// A setting, as the reference shows it: its heading, and its line.
fn setting(argument: &Arg) -> Option<(String, String, String)> {
    let variable = argument.get_env()?.to_string_lossy().into_owned();
    let heading = argument.get_help_heading().unwrap_or("Its own").to_owned();
    let default: Vec<String> = argument
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let default = match default.as_slice() {
        [] if argument.is_required_set() => "needed".to_owned(),
        [] => String::new(),
        some => some.join(" "),
    };
    let help = argument
        .get_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let line = format!(
        "| `{variable}` | {default} | {} |",
        help.replace('|', "\\|")
    );
    Some((heading, variable, line))
}

fn commands() -> Vec<Command> {
    vec![
        order::Config::command(),
        payment::Config::command(),
        inventory::Config::command(),
        notification::Config::command(),
        orchestrator::Config::command(),
        card_processor::Config::command(),
        control_room::Config::command(),
    ]
}

fn reference() -> String {
    let commands = commands();
    // What it says -> who says it. What all say is shown once.
    let mut said: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
    for command in &commands {
        for setting in command.get_arguments().filter_map(setting) {
            said.entry(setting)
                .or_default()
                .push(command.get_name().to_owned());
        }
    }
    let mut groups: BTreeMap<(usize, String, String), Vec<String>> = BTreeMap::new();
    for ((heading, _, line), who) in said {
        let (order, whose) = if who.len() == commands.len() {
            (0, "every service".to_owned())
        } else {
            (1 + (commands.len() - who.len()), who.join(", "))
        };
        groups
            .entry((order, whose, heading))
            .or_default()
            .push(line);
    }
    let mut text = String::new();
    for ((_, whose, heading), lines) in groups {
        let _ = writeln!(text, "#### {heading}: {whose}\n");
        let _ = writeln!(
            text,
            "| variable | default | what it is |\n| --- | --- | --- |"
        );
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

#[test]
fn the_configuration_reference_is_what_help_says() {
    let path = "docs/deploy.md";
    let is = std::fs::read_to_string(xtask::workspace::root().join(path)).expect("the page exists");
    holds(path, &fill(&is, "configuration", &reference()));
}

#[test]
fn every_setting_is_a_documented_variable() {
    for command in commands() {
        for argument in command.get_arguments() {
            if argument.get_id() == "help" || argument.get_id() == "version" {
                continue;
            }
            let name = format!("{} {}", command.get_name(), argument.get_id());
            assert!(argument.get_env().is_some(), "{name} has no variable");
            assert!(argument.get_help().is_some(), "{name} is not documented");
        }
    }
}
