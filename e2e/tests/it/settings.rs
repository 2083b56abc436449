//! The configuration reference in `docs/deploy.md` is generated from the programs' `--help`; and production refuses the
//! settings that open a guard.

use std::{collections::BTreeMap, fmt::Write};

use clap::{Arg, ArgAction, Command, CommandFactory, Parser};

use crate::documents::{fill, holds};

/// Returns a setting as the reference shows it: heading, variable and line. `None` if it has no variable.
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
    // From a setting to the programs that have it. A setting of all programs is shown once.
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
fn configuration_reference_matches_help() {
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

/// Tries to build a service with these arguments. Returns its error, if it refuses.
fn refusal(service: &str, arguments: &[String]) -> Option<String> {
    fn build<C: Parser, A>(
        arguments: &[String],
        build: impl FnOnce(C) -> anyhow::Result<A>,
    ) -> Option<String> {
        let config = C::try_parse_from(arguments).unwrap_or_else(|error| panic!("{error}"));
        build(config).err().map(|error| format!("{error:#}"))
    }
    match service {
        "order" => build(arguments, order::App::build),
        "payment" => build(arguments, payment::App::build),
        "inventory" => build(arguments, inventory::App::build),
        "notification" => build(arguments, notification::App::build),
        "orchestrator" => build(arguments, orchestrator::App::build),
        "card-processor" => build(arguments, card_processor::App::build),
        "control-room" => build(arguments, control_room::App::build),
        other => panic!("there is no service {other}"),
    }
}

/// Returns a file with a key that is not the development key, which production refuses before it looks at any switch.
fn keys_of_our_own() -> String {
    let file = std::env::temp_dir().join(format!("webhook-keys-{}", uuid::Uuid::now_v7()));
    std::fs::write(&file, format!("test {}=\n", "A".repeat(43))).expect("a writable file");
    file.display().to_string()
}

/// Returns the fewest arguments with which a service can be built.
fn least(command: &Command) -> Vec<String> {
    let root = xtask::workspace::root();
    let file = |name: &str| root.join(name).display().to_string();
    let mut arguments = vec![command.get_name().to_owned()];
    for argument in command.get_arguments() {
        let name = argument.get_long().unwrap_or_default();
        let value = match name {
            "jwks" => file("deploy/development/jwks.json"),
            "webhook-keys-file" => keys_of_our_own(),
            "operator-token-file" => file("deploy/development/jwks.json"),
            _ if !argument.is_required_set() => continue,
            _ if name.contains("database") => "postgres://user@127.0.0.1:1/name".to_owned(),
            "amqp-url" => "amqp://user@127.0.0.1:1/name".to_owned(),
            "redis-url" => "redis://user@127.0.0.1:1".to_owned(),
            "smtp-url" => "smtp://127.0.0.1:1".to_owned(),
            _ => "http://127.0.0.1:1".to_owned(),
        };
        arguments.push(format!("--{name}={value}"));
    }
    arguments
}

/// The rule belongs to the type `chassis::settings::Opens`; this test finds a switch of another type.
#[tokio::test]
async fn production_refuses_every_switch_by_name() {
    testkit::client(); // installs the cryptography
    let mut switches = 0;
    for command in commands() {
        let service = command.get_name().to_owned();
        let least = least(&command);
        assert_eq!(refusal(&service, &least), None, "{service} can start");
        for argument in command.get_arguments() {
            if !matches!(argument.get_action(), ArgAction::SetTrue) {
                continue;
            }
            switches += 1;
            let switch = format!("--{}", argument.get_long().expect("a name"));
            let variable = argument.get_env().expect("a variable").to_string_lossy();
            let open = [least.clone(), vec![switch]].concat();
            assert_eq!(refusal(&service, &open), None, "{service} with {variable}");
            let open = [open, vec!["--environment=production".to_owned()]].concat();
            let why = refusal(&service, &open);
            let wanted = format!("{variable}=true is not for ENVIRONMENT=production");
            assert_eq!(why.as_deref(), Some(wanted.as_str()), "{service}");
        }
    }
    assert!(
        switches >= 16,
        "fewer than two for each service and the webhooks' two: {switches}"
    );
}

#[tokio::test]
async fn network_gets_no_operator_rights_unless_opened() {
    testkit::client(); // installs the cryptography
    for command in commands() {
        let service = command.get_name().to_owned();
        let with = |more: &[&str]| {
            let more = more.iter().map(|argument| (*argument).to_owned());
            let arguments: Vec<String> = least(&command).into_iter().chain(more).collect();
            refusal(&service, &arguments)
        };
        // The development key alone makes everyone who has the repository an operator.
        for opening in ["--demo-mode", "--http-workers=1"] {
            assert_eq!(with(&[opening, "--front-door=127.0.0.1:8080"]), None);
            for published in ["0.0.0.0:8080", "8080", "192.0.2.7:8080", "[::]:8080"] {
                let front_door = format!("--front-door={published}");
                let why = with(&[opening, &front_door]).unwrap_or_default();
                assert!(
                    why.contains("makes an operator of everybody who reaches"),
                    "{service} {opening} {published}: {why:?}"
                );
                let meant = with(&[opening, &front_door, "--demo-for-the-network"]);
                assert_eq!(meant, None, "{service} {opening} {published}");
            }
            let listening = with(&[opening, "--http-listen=0.0.0.0:0"]).unwrap_or_default();
            assert!(listening.contains("0.0.0.0:0"), "{service}: {listening:?}");
        }
    }
}
