use std::io::{BufRead, BufReader, Read};

use super::*;

/// A tool of ours is often one that starts others: cargo, apt-get.
#[test]
fn dropped_group_ends_with_the_children_of_its_command() {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "(sleep 20; echo survived) & echo begun; wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut group = Group::start(&mut shell).expect("a shell");
    let output = group.0.stdout.take().expect("a pipe");
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "begun\n");

    drop(group);
    // It ends when no process holds the other end of the pipe any more.
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the end");
    assert_eq!(rest, "");
}

/// The id of a command that was waited for may belong to another process.
#[test]
fn ended_command_is_not_killed_again() {
    let mut group = Group::start(&mut Command::new("true")).expect("a command");
    let status = wait_for("true", Duration::from_secs(60), || group.ended());
    assert!(status.expect("its end").success());
    drop(group);
}
