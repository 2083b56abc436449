#!/usr/bin/env bash
# lapin 4.12.3 (crates.io) with RabbitMQ 3.10.8 (Debian 12).
#
# Expected: a message to an exchange that does not exist costs its channel, as AMQP says: the broker closes the channel
# with 404, the client responds with close-ok and sends nothing more on it. The connection and its other channels go on.
# Observed: publishes wait in a queue of lower priority than all other frames. The close-ok overtakes a publish that was
# handed over just before, which is then sent all the same. For the broker that channel is not open any more: it closes
# the whole connection with 504 "expected 'channel.open'". Of rounds in which four tasks publish while a fifth's message
# is refused, about one in ten ends so; with a single task about one in 300 on a busy machine.
#
# Remedy: after a channel error expect the connection to be lost, too. If the next channel cannot be opened, connect
# again, and do not count that as the next message's failure.
set -euo pipefail

work=$(mktemp -d)
broker=
stop() {
    [ -z "$broker" ] || { kill "$broker"; wait "$broker" || true; } 2>/dev/null
    [ -z "${epmd:-}" ] || kill "$epmd" 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
cd "$work"

# Debian's broker; its service is not started.
if [ ! -x /usr/lib/rabbitmq/bin/rabbitmq-server ]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
    apt-get install --yes --quiet --no-install-recommends 'rabbitmq-server=3.10.8*' >/dev/null
    rm /usr/sbin/policy-rc.d
fi
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
amqp=$(free) node=$(free)
export ERL_EPMD_PORT=$(free) ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_CONF_ENV_FILE=/dev/null
export RABBITMQ_NODENAME=finding@localhost RABBITMQ_DIST_PORT=$node RABBITMQ_MNESIA_BASE=$work/mnesia
export RABBITMQ_LOG_BASE=$work/log RABBITMQ_PID_FILE=$work/pid RABBITMQ_CONFIG_FILE=$work/rabbitmq.conf
export RABBITMQ_ENABLED_PLUGINS_FILE=$work/plugins RUNNING_UNDER_SYSTEMD=1
echo '[].' >plugins
printf 'listeners.tcp.1 = 127.0.0.1:%s\nlog.console = true\nlog.file = false\n' "$amqp" >rabbitmq.conf
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
epmd=$!
HOME=$work /usr/lib/rabbitmq/bin/rabbitmq-server >broker.log 2>&1 &
broker=$!

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "overtaken"
version = "0.0.0"
edition = "2024"

[dependencies]
lapin = { version = "=4.12.3", default-features = false, features = ["tokio"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread", "time"] }
TOML
cat >src/main.rs <<'RUST'
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};

const ROUNDS: usize = 5000;

/// Publishes messages one after the other, until the channel is closed.
async fn publish(channel: Channel) {
    for _ in 0..100 {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default();
        let sent = channel.basic_publish("amq.topic".into(), "key".into(), options, b"x", properties);
        if sent.await.is_err() {
            return;
        }
    }
}

/// Has one message refused while four tasks publish on its channel, and returns the refusal; fails if the connection
/// is lost.
async fn round(connection: &Connection) -> Result<lapin::Error, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    let bad = channel.basic_publish("missing".into(), "key".into(), options, b"x", properties).await?;
    let others: Vec<_> = (0..4).map(|_| tokio::spawn(publish(channel.clone()))).collect();
    let refused = bad.await.unwrap_err();
    for other in others {
        other.await.unwrap();
    }
    Ok(refused)
}

#[tokio::main]
async fn main() {
    let url = std::env::args().nth(1).unwrap();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    for number in 1..=ROUNDS {
        match round(&connection).await {
            Ok(refused) if number == 1 => println!("round {number}: {refused}"),
            Ok(_) => {}
            Err(lost) => {
                println!("round {number}: the connection is lost: {lost}");
                return;
            }
        }
    }
    println!("the connection survived {ROUNDS} rounds");
}
RUST
cargo build --quiet
until (exec 3<>"/dev/tcp/127.0.0.1/$amqp") 2>/dev/null; do
    kill -0 "$broker" || { cat broker.log; exit 1; }
    sleep 0.2
done
cargo run --quiet -- "amqp://guest:guest@127.0.0.1:$amqp/%2f" | tee seen
grep -a 'channel_error\|operation .* caused a connection exception' broker.log | head -1 |
    sed 's/\x1b\[[0-9;]*m//g; s/.*\(operation basic\)/broker: \1/'
grep -q '^round 1: .*NOT_FOUND' seen
grep -q 'the connection is lost' seen
grep -q "expected 'channel.open'" broker.log
