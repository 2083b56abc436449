//! 300 orders arrive slowly, byte by byte: other customers' requests, without them and with them.
//!
//! The ways take turns in one run, so that a machine that is slow for a while slows all of them alike.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chassis::identity::Role;
use contracts::value::OrderId;
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

use super::{
    Measured,
    accounts::by_card,
    orders::shown,
    stage::Stage,
    trickle::{Counts, Ended, Target, Trickle},
};
use crate::{
    api::{Api, ApiError, insist},
    load::quantiles::{Latencies, Summary},
};

/// The number of slow bodies that must be open at every moment.
const WANTED: usize = 300;
/// The number of connections: more than [`WANTED`], as some are always being opened anew.
const CONNECTIONS: usize = 330;
/// The time over which connections are opened: as long as the services wait for a body, so that the connections also
/// end one after the other.
const OPENED_OVER: Duration = Duration::from_secs(5);
/// The number of turns of each way, and the length of a turn.
const ROUNDS: usize = 6;
const ROUND: Duration = Duration::from_secs(10);
/// The time between two turns.
const PAUSE: Duration = Duration::from_secs(1);
/// Other customers' requests per second; every third one places an order.
const RATE: f64 = 18.0;
/// The limit for p99, as a multiple of p99 without slow bodies.
const LIMIT: f64 = 3.0;

/// The customers whose slow bodies are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Without,
    /// All of one customer, who may have `HTTP_MAX_ARRIVING_PER_CLIENT` at a time.
    OneCustomer,
    /// Each of another customer, so that none exceeds a customer's limit; all from one address.
    OneAddress,
}

/// The measurements of all turns of a way.
#[derive(Default)]
struct Seen {
    placing: Latencies,
    reading: Latencies,
    /// Other customers' requests that failed, by the error.
    refused: BTreeMap<String, usize>,
    accepted: Vec<OrderId>,
    /// The cores that other programs on this machine kept busy during each turn.
    others_used: Vec<f64>,
    /// The counts of the slow bodies; `None` for [`Way::Without`].
    slow: Option<Counts>,
}

/// A request of another customer.
#[derive(Clone, Copy, Debug)]
enum Request {
    Place,
    List,
    Show(OrderId),
}

impl Way {
    const ALL: [Self; 3] = [Self::Without, Self::OneCustomer, Self::OneAddress];

    fn name(self) -> &'static str {
        match self {
            Self::Without => "without slow bodies",
            Self::OneCustomer => "of one customer",
            Self::OneAddress => "of one address",
        }
    }

    /// Returns a token for each connection.
    fn tokens(self, api: &Api) -> Result<Vec<String>, ApiError> {
        let token = |name: String| api.token(&name, Role::Customer);
        match self {
            Self::Without => Ok(Vec::new()),
            Self::OneCustomer => (0..CONNECTIONS).map(|_| token("slow".to_owned())).collect(),
            Self::OneAddress => (0..CONNECTIONS)
                .map(|n| token(format!("slow-{n}")))
                .collect(),
        }
    }
}

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    stage.warm_up().await;
    let known = known(stage).await?;
    let target = Target::new(&stage.api.urls().order_url, "/orders")?;
    let mut seen: BTreeMap<Way, Seen> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut ways = Way::ALL;
        if round % 2 == 1 {
            ways.reverse();
        }
        for way in ways {
            let one = turn(stage, way, &target, known).await?;
            stage.say(&format!("round {}, {}", round + 1, one.told(way)));
            seen.entry(way).or_default().add(one);
        }
    }
    for id in seen.values().flat_map(|seen| &seen.accepted) {
        stage.accepted(*id);
    }
    let without = seen.entry(Way::Without).or_default();
    let usual = [&without.placing, &without.reading].map(p99);
    for (way, seen) in &seen {
        check(stage, *way, seen, usual);
    }
    let rows = seen.iter().map(|(way, seen)| Measured {
        name: way.name(),
        cells: seen.cells(usual),
    });
    let columns = vec![
        "202",
        "p50 of placing",
        "p99",
        "",
        "200",
        "p50 of reading",
        "p99",
        "",
        "others",
        "open at least",
        "slow bodies ended by",
        "cores: others",
    ];
    Ok((columns, rows.collect()))
}

/// Returns an order of the first customer, to be read.
async fn known(stage: &Stage) -> anyhow::Result<OrderId> {
    let first = customer(0);
    let page = insist(|| stage.api.read_as(&first, "/orders?limit=1")).await?;
    let id = page["orders"][0]["id"].as_str();
    let id = id.ok_or_else(|| anyhow::anyhow!("no order was accepted"))?;
    Ok(OrderId(id.parse()?))
}

/// Measures one turn of a way.
async fn turn(stage: &Stage, way: Way, target: &Target, known: OrderId) -> anyhow::Result<Seen> {
    let tokens = way.tokens(&stage.api)?;
    let trickle = match way {
        Way::Without => None,
        _ => Some(Trickle::open(target, &tokens, OPENED_OVER).await),
    };
    holdfast::backoff::pause(PAUSE).await;
    if let Some(trickle) = &trickle {
        trickle.watch();
    }
    let processor = stage.processor();
    let mut seen = others(stage, known).await;
    seen.others_used.push(stage.others_used(&processor));
    seen.slow = trickle.map(|trickle| trickle.counts());
    holdfast::backoff::pause(PAUSE).await;
    Ok(seen)
}

/// Sends requests of other customers at [`RATE`], whatever their latency, which begins when a request is due.
async fn others(stage: &Stage, known: OrderId) -> Seen {
    let skus: Arc<[String]> = stage.skus().into();
    let mut ticks = interval(Duration::from_secs_f64(1.0 / RATE));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    let mut asking = JoinSet::new();
    let mut number = 0;
    while begun.elapsed() < ROUND {
        let due = ticks.tick().await;
        let request = match number % 3 {
            0 => Request::Place,
            1 => Request::List,
            _ => Request::Show(known),
        };
        let (api, skus) = (Arc::clone(&stage.api), Arc::clone(&skus));
        asking.spawn(async move {
            let answer = ask(&api, &skus, request, number).await;
            (request, answer, due.elapsed())
        });
        number += 1;
    }
    let mut seen = Seen::default();
    while let Some(Ok((request, answer, took))) = asking.join_next().await {
        seen.take(request, answer, took);
    }
    seen
}

fn customer(number: usize) -> String {
    format!("drill-{}", number % 50)
}

async fn ask(
    api: &Api,
    skus: &[String],
    request: Request,
    number: usize,
) -> Result<Value, ApiError> {
    match request {
        Request::Place => {
            let order = by_card(&skus[number % skus.len()], number);
            let key = Uuid::now_v7().to_string();
            api.place(&customer(number), &key, &order).await
        }
        Request::List => api.read_as(&customer(number), "/orders?limit=10").await,
        Request::Show(id) => api.read_as(&customer(0), &format!("/orders/{id}")).await,
    }
}

/// Reports each limit that was exceeded.
fn check(stage: &Stage, way: Way, seen: &Seen, usual: [f64; 2]) {
    let name = way.name();
    if !seen.refused.is_empty() {
        stage.exceeded(&format!(
            "{name}, requests of other customers failed: {:?}",
            seen.refused
        ));
    }
    for (what, ratio) in ["placing", "reading"].iter().zip(seen.ratios(usual)) {
        if ratio > LIMIT {
            stage.exceeded(&format!(
                "{name}, p99 of {what} is {ratio:.1} times p99 without slow bodies; the limit is {LIMIT}"
            ));
        }
    }
    let least = seen.slow.as_ref().map_or(0, |slow| slow.least);
    if way == Way::OneAddress && least < WANTED {
        stage.exceeded(&format!(
            "{name}, at times only {least} slow bodies were open; {WANTED} are needed"
        ));
    }
}

fn p99(latencies: &Latencies) -> f64 {
    latencies.summary().p99_ms
}

impl Seen {
    fn take(&mut self, request: Request, answer: Result<Value, ApiError>, took: Duration) {
        let latencies = match request {
            Request::Place => &mut self.placing,
            Request::List | Request::Show(_) => &mut self.reading,
        };
        match answer {
            Ok(answer) => {
                latencies.add(took);
                let id = answer["id"].as_str().and_then(|id| id.parse().ok());
                if matches!(request, Request::Place) {
                    self.accepted.extend(id.map(OrderId));
                }
            }
            Err(error) => *self.refused.entry(error.to_string()).or_default() += 1,
        }
    }

    /// Adds the measurements of another turn.
    fn add(&mut self, turn: Self) {
        self.placing.extend(&turn.placing);
        self.reading.extend(&turn.reading);
        for (answer, n) in turn.refused {
            *self.refused.entry(answer).or_default() += n;
        }
        self.accepted.extend(turn.accepted);
        self.others_used.extend(turn.others_used);
        self.slow = match (self.slow.take(), turn.slow) {
            (Some(before), Some(now)) => Some(before.and(now)),
            (before, now) => before.or(now),
        };
    }

    /// Returns p99 of placing and of reading, as multiples of the usual ones.
    fn ratios(&self, usual: [f64; 2]) -> [f64; 2] {
        [p99(&self.placing) / usual[0], p99(&self.reading) / usual[1]]
    }

    fn told(&self, way: Way) -> String {
        let open = self
            .slow
            .as_ref()
            .map(|slow| format!("; {} slow bodies open at least", slow.least));
        let others_used: f64 = self.others_used.iter().sum();
        format!(
            "{}: p99 of placing {}, of reading {}{}; cores that others used: {others_used:.2}",
            way.name(),
            shown(&self.placing, |took: Summary| took.p99_ms),
            shown(&self.reading, |took: Summary| took.p99_ms),
            open.unwrap_or_default()
        )
    }

    fn cells(&self, usual: [f64; 2]) -> Vec<String> {
        let mut cells = Vec::new();
        let [placing, reading] = self.ratios(usual);
        for (latencies, ratio) in [(&self.placing, placing), (&self.reading, reading)] {
            cells.push(latencies.len().to_string());
            cells.push(shown(latencies, |took| took.p50_ms));
            cells.push(shown(latencies, |took| took.p99_ms));
            cells.push(format!("x {ratio:.2}"));
        }
        cells.push(self.refused.values().sum::<usize>().to_string());
        let (least, ended) = match &self.slow {
            Some(slow) => (slow.least.to_string(), slow.ended()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        cells.extend([least, ended]);
        #[expect(clippy::cast_precision_loss, reason = "a few turns")]
        let turns = self.others_used.len() as f64;
        let others_used = self.others_used.iter().sum::<f64>() / turns;
        cells.push(format!("{others_used:.2}"));
        cells
    }
}

impl Counts {
    /// Returns the counts of two turns together.
    fn and(mut self, other: Self) -> Self {
        self.least = self.least.min(other.least);
        for (ended, n) in other.ended {
            *self.ended.entry(ended).or_default() += n;
        }
        self
    }

    fn ended(&self) -> String {
        let ended = self.ended.iter().map(|(ended, n)| match ended {
            Ended::Status(status) => format!("{status}: {n}"),
            Ended::Unanswered => format!("no answer: {n}"),
        });
        let ended: Vec<String> = ended.collect();
        if ended.is_empty() {
            return "none ended".to_owned();
        }
        ended.join(", ")
    }
}
