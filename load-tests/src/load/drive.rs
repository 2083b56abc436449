//! A run of a load, from seeding to reconciling.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};
use holdfast::backoff::pause;
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    attack::{CUSTOMERS, Crowd, Desks, POOR, customer},
    board::Board,
    depths::Gauge,
    processes::Whose,
    profile::Profile,
    report::{Books, Report, Run},
    sampler::{Sample, Samples, sample},
    schedule::{Scenario, Schedule, Spread, Ticket},
    watch::{Cost, watch},
};
use crate::{
    api::Api,
    reconcile::{Sources, Wanted, reconcile},
    traffic::{Ways, seed},
};

/// The longest time for orders to come to rest after the last arrival.
const REST: Duration = Duration::from_secs(300);
/// The time for which the idle stack is measured before the first arrival.
const CALM: Duration = Duration::from_secs(5);
/// The number of seconds' worth of arrivals that may be in flight before a stack counts as saturated.
const BACKLOG_SECONDS: f64 = 4.0;

/// A run that is to be made.
pub struct Plan {
    pub profile: Profile,
    /// The distribution of arrivals.
    pub spread: Spread,
    /// The seed of the schedule.
    pub seed: u64,
    /// Users of goose.
    pub users: usize,
    /// The ways that orders take.
    pub ways: Ways,
    /// The folder of the journal.
    pub folder: PathBuf,
    /// The books; without them nothing is reconciled.
    pub sources: Option<Sources>,
}

/// Runs a load and returns its report.
pub async fn drive(api: Arc<Api>, plan: Plan) -> anyhow::Result<Report> {
    say("seeding products and wallets");
    seed(&api).await?;
    wallets(&api).await?;
    let skus = api.skus().await?;
    let whose = Whose::find();
    match &whose {
        Whose::Stack(stack) => say(format!("processes: those of {}", stack.display())),
        Whose::Containers(all) => say(format!("processes: those of {} containers", all.len())),
        Whose::Unknown(why) => say(format!("no figures of processor and memory: {why}")),
    }
    let gauge = plan.sources.as_ref().map(Gauge::new).transpose()?;
    if gauge.is_none() {
        say("no figures of queues and outboxes, and nothing to reconcile: no books were named");
    }
    let journal = plan.folder.join("journal");
    let board = Arc::new(Board::new(&plan.profile, &journal)?);
    let (crowd, desks) = Crowd::new(&api, &board, skus, plan.ways, plan.users)?;
    let (samples, stop) = (Samples::default(), CancellationToken::new());

    let begun = Instant::now();
    let course = Course {
        api: &api,
        board: &board,
        plan: &plan,
        samples: &samples,
    };
    let (requests, (), course) = tokio::join!(
        Arc::clone(&crowd).run(),
        sample(&samples, &whose, gauge.as_ref(), begun, &stop),
        async {
            let course = course.run(&crowd, desks).await;
            stop.cancel();
            course
        },
    );
    // First goose's error: if goose did not start, the course's error is its consequence.
    let requests = requests?;
    let ended = course?;
    let books = match &plan.sources {
        Some(sources) => Some(books(sources, &journal).await?),
        None => None,
    };
    Ok(Report::new(Run {
        profile: plan.profile,
        spread: plan.spread,
        seed: plan.seed,
        users: plan.users,
        ways: plan.ways,
        board: &board,
        samples: samples.all(),
        // The samples began before the arrivals.
        offset: (board.begin() - begun).as_secs_f64(),
        phases_done: ended.phases,
        interrupted: ended.interrupted,
        watching: ended.watching,
        requests,
        books,
    }))
}

/// The end of the arrivals.
struct Ended {
    /// The number of phases that ran to their end.
    phases: usize,
    interrupted: bool,
    watching: Cost,
}

struct Course<'a> {
    api: &'a Api,
    board: &'a Board,
    plan: &'a Plan,
    samples: &'a Samples,
}

impl Course<'_> {
    async fn run(&self, crowd: &Crowd, mut desks: Desks) -> anyhow::Result<Ended> {
        timeout(Duration::from_secs(60), crowd.complete())
            .await
            .context("goose's users are not there after 60 s")?;
        // Goose has installed its signal handler; ours is added to it.
        let interrupted = chassis::on_signal()?;
        say(format!(
            "{} users are there; the stack alone for {} s",
            self.plan.users,
            CALM.as_secs()
        ));
        pause(CALM).await;
        let cancels = desks
            .get(&Scenario::Cancel)
            .context("a desk for cancels")?
            .clone();
        let (enough, rested) = (interrupted.child_token(), CancellationToken::new());
        let begun = self.board.begin();
        let profile = &self.plan.profile;
        say(format!(
            "{}: {:.0} s, up to {:.0} orders per second",
            profile.name,
            profile.length().as_secs_f64(),
            profile.highest_rate()
        ));
        let (watching, phases) =
            tokio::join!(watch(self.api, self.board, &cancels, &rested), async {
                let over = CancellationToken::new();
                let (phases, ()) = tokio::join!(
                    async {
                        self.arrivals(begun, &desks, &enough).await;
                        let phases = self.phases_done();
                        // From here on only cancels come.
                        desks.clear();
                        self.rest().await;
                        over.cancel();
                        phases
                    },
                    self.progress(&enough, &over),
                );
                rested.cancel();
                phases
            });
        Ok(Ended {
            phases,
            interrupted: interrupted.is_cancelled(),
            watching,
        })
    }

    /// Sends a ticket at each moment of the schedule.
    async fn arrivals(&self, begun: Instant, desks: &Desks, enough: &CancellationToken) {
        let Plan {
            profile,
            spread,
            seed,
            ..
        } = self.plan;
        for arrival in Schedule::new(&profile.phases, *spread, *seed) {
            let due = enough.run_until_cancelled(sleep_until(begun + arrival.at));
            if due.await.is_none() {
                return;
            }
            self.board.offered(arrival);
            let desk: Option<&UnboundedSender<Ticket>> = desks.get(&arrival.scenario);
            if desk.is_none_or(|desk| desk.send(Ticket::Arrival(arrival)).is_err()) {
                let now = self.board.now();
                self.board
                    .failed(arrival, now, "goose has no users left".to_owned());
            }
        }
        let end = begun + profile.length();
        enough.run_until_cancelled(sleep_until(end)).await;
    }

    fn phases_done(&self) -> usize {
        let now = self.board.now().as_secs_f64();
        let spans = self.plan.profile.spans();
        spans.iter().filter(|(_, end)| *end <= now + 0.01).count()
    }

    /// Waits until all orders are at rest, for at most [`REST`].
    async fn rest(&self) {
        let begun = Instant::now();
        // Requests that are under way are not orders yet.
        while begun.elapsed() < REST && (self.board.in_flight() > 0 || !self.board.all_answered()) {
            pause(Duration::from_millis(100)).await;
        }
    }

    /// Reports the progress every two seconds, until `over`; cancels `enough` when the stack is saturated.
    async fn progress(&self, enough: &CancellationToken, over: &CancellationToken) {
        let mut shown = 0_u64;
        let until =
            |second: u64| pause(Duration::from_secs(second).saturating_sub(self.board.now()));
        while over.run_until_cancelled(until(shown + 1)).await.is_some() {
            shown += 1;
            if shown.is_multiple_of(2) {
                say(self.line());
            }
            if self.plan.profile.to_saturation
                && !enough.is_cancelled()
                && let Some(why) = self.is_saturated()
            {
                say(format!("saturated: {why}"));
                enough.cancel();
            }
        }
    }

    fn is_saturated(&self) -> Option<String> {
        let now = self.board.now().as_secs_f64();
        let profile = &self.plan.profile;
        let spans = profile.spans();
        let current = spans.iter().position(|(_, end)| now < *end)?;
        let rate = profile.phases[current].rate;
        #[expect(clippy::cast_precision_loss, reason = "a count of orders")]
        let in_flight = self.board.in_flight() as f64;
        if in_flight > (rate * BACKLOG_SECONDS).max(100.0) {
            return Some(format!(
                "{in_flight:.0} orders in flight at {rate:.0} per second"
            ));
        }
        // Two seconds after its end, all orders of a phase have been seen, if the stack keeps up.
        let last = current.checked_sub(1)?;
        if now < spans[last].1 + 2.0 {
            return None;
        }
        let result = self.board.phase(last, spans[last]);
        let limits = &profile.limits;
        (!result.keeps_up(limits)).then(|| {
            format!(
                "at {:.0} per second {:.0} came to rest, p99 {:.0} ms, {} of {} failed",
                result.offered_rate,
                result.rest_rate,
                result.to_rest.p99_ms,
                result.failed,
                result.offered
            )
        })
    }

    fn line(&self) -> String {
        let now = usize::try_from(self.board.now().as_secs()).unwrap_or(0);
        // Orders that came to rest in the last second may not have been seen yet.
        let (_, _, rested, latency) = self
            .board
            .between(now.saturating_sub(3), now.saturating_sub(1));
        let (offered, accepted, _, _) = self.board.between(now.saturating_sub(2), now);
        let totals = self.board.counts();
        #[expect(clippy::cast_precision_loss, reason = "counts of orders")]
        let [offered, accepted, rested] = [offered, accepted, rested].map(|n| n as f64 / 2.0);
        let depths = self
            .samples
            .last()
            .and_then(|Sample { depths, .. }| depths)
            .map_or_else(
                || "–".to_owned(),
                |depths| {
                    format!(
                        "{} in queues, {} in outboxes",
                        depths.in_queues(),
                        depths.in_outboxes()
                    )
                },
            );
        let errors: Vec<String> = totals
            .errors
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        format!(
            "{now:>4} s | per second: {offered:>5.1} arrive, {accepted:>5.1} accepted, {rested:>5.1} at rest | {:>4} in flight \
             | to rest p50 {:>4.0} p95 {:>4.0} p99 {:>4.0} ms | {depths} | late {} | errors: {}",
            totals.waiting,
            latency.p50_ms,
            latency.p95_ms,
            latency.p99_ms,
            totals.late,
            if errors.is_empty() {
                "none".to_owned()
            } else {
                errors.join(", ")
            }
        )
    }
}

/// Funds a wallet for each customer.
async fn wallets(api: &Api) -> anyhow::Result<()> {
    let all = (0..CUSTOMERS)
        .map(|index| (customer(index), 1_000_000_000))
        .chain([(POOR.to_owned(), 1)]);
    stream::iter(all)
        .map(|(name, amount)| async move { api.fund(&name, amount, "EUR").await })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await
        .context("the wallets")?;
    Ok(())
}

/// Reconciles, with the journal of accepted orders.
async fn books(sources: &Sources, journal: &Path) -> anyhow::Result<Books> {
    say("reconciling");
    let text = std::fs::read_to_string(journal).with_context(|| journal.display().to_string())?;
    let accepted: HashSet<_> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
    let wanted = Wanted {
        accepted,
        none_by_deadline: true,
    };
    let report = reconcile(sources, Duration::from_secs(120), &wanted).await?;
    Ok(Books {
        clean: report.is_clean(),
        lines: report.to_string().lines().map(str::to_owned).collect(),
    })
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
pub(super) fn say(line: impl std::fmt::Display) {
    println!("load: {line}");
}
