//! Drills begun from the page: reported as they happen, one at a time, with every fault removed after them.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{PATIENCE, RedisServer};
use tokio::time::timeout;

use super::{Watcher, ask, get, open, open_with};

async fn told_to_the_end(watcher: &mut Watcher) -> Value {
    let end = async {
        loop {
            let (event, data) = watcher.next().await.expect("the room is open");
            if event == "drill" && data["running"] == false {
                return data;
            }
        }
    };
    // A drill takes half a minute, and then waits for its orders.
    timeout(2 * PATIENCE, end).await.expect("a drill ends")
}

fn lines(told: &Value) -> Vec<&str> {
    let lines = told["lines"].as_array().expect("lines");
    lines.iter().filter_map(Value::as_str).collect()
}

/// Returns the numbers of the last row with this name.
fn row(lines: &[&str], name: &str) -> Vec<u32> {
    let row = lines.iter().rev().find(|line| line.contains(name));
    let row = row.unwrap_or_else(|| panic!("no {name}: {lines:#?}"));
    let (_, cells) = row.split_once(name).expect("its name");
    let cells = cells.split_whitespace();
    cells.filter_map(|cell| cell.parse().ok()).collect()
}

#[tokio::test]
async fn a_drill_is_told_line_by_line_and_ends_with_the_books() {
    let system = open().await;
    let drills = get(&system, "/room/drills").await;
    let names: Vec<&str> = drills
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|drill| drill["name"].as_str())
        .collect();
    assert!(
        names.contains(&"degraded-prices") && names.contains(&"breaker"),
        "{names:?}"
    );
    let begin = async |name: &str| {
        let path = format!("/room/drills/{name}");
        ask(&system, Method::POST, &path, json!({})).await
    };
    begin("earthquake")
        .await
        .expect_problem(404, "not-found", None);

    let mut watcher = Watcher::watch(&system).await;
    begin("degraded-prices").await.expect(202);
    begin("breaker").await.expect_problem(409, "conflict", None);
    let told = told_to_the_end(&mut watcher).await;
    let lines = lines(&told);
    let text = lines.join("\n");
    assert_eq!(lines.last(), Some(&"the books agree"), "{text}");
    // With the pattern no order is refused, and without it every order is.
    let (with, without) = (
        row(&lines, "last known prices on"),
        row(&lines, "last known prices off"),
    );
    assert!(with[0] > 50 && with[0] == with[1] && with[2] == 0, "{text}");
    assert!(without[0] == 0 && without[2] > 50, "{text}");

    // The fault is removed, and the pattern is on again.
    let dependencies: Value = system
        .api
        .get("order", "/operator/dependencies")
        .await
        .expect("the order service answers");
    assert_eq!(dependencies[0]["fallback"], true, "{dependencies}");
    assert_eq!(
        dependencies[0]["breaker"]["state"], "closed",
        "{dependencies}"
    );
    system.end().await;
}

#[tokio::test]
async fn drill_empties_redis_with_fencing_and_without() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let system = open_with(&[("REDIS_URL", url.as_str())]).await;
    let mut watcher = Watcher::watch(&system).await;
    let begin = ask(&system, Method::POST, "/room/drills/lock-flush", json!({}));
    begin.await.expect(202);
    let told = told_to_the_end(&mut watcher).await;
    let lines = lines(&told);
    assert_eq!(lines.last(), Some(&"the books agree"), "{lines:#?}");
    // The columns: times emptied, calls at once, refused, written, charged twice.
    let (with, without) = (row(&lines, "fencing on"), row(&lines, "fencing off"));
    assert!(with[0] > 5 && without[0] > 5, "{lines:#?}");
    assert!(with[2] > 0 && with[3] == 0, "{lines:#?}");
    assert!(without[2] == 0 && without[3] > 0, "{lines:#?}");
    assert!(with[4] == 0 && without[4] == 0, "{lines:#?}");
    system.end().await;
}
