//! The moments at which orders arrive.
//!
//! The schedule is independent of the responses, which makes the loop an open one. Customers who do not know each other
//! arrive as a Poisson process, so the gaps between arrivals are exponential; a constant rate is there for comparison.
//! Each arrival is marked with a scenario by its weight, and a marked Poisson process is one Poisson process per
//! scenario.

use std::time::Duration;

use contracts::value::OrderId;
use fastrand::Rng;

use super::profile::Phase;

/// The behaviour of an arriving customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scenario {
    /// Looks at the catalogue and at a product, and orders one or two products, by wallet or card.
    BrowseAndOrder,
    /// Orders with a card that is declined, or a wallet that holds too little.
    Decline,
    /// Orders a product that is out of stock: charged, and refunded.
    StockOut,
    /// Cancels, at once or after the confirmation.
    Cancel,
    /// Orders the one product that all these customers want.
    HotProduct,
}

impl Scenario {
    pub const ALL: [Self; 5] = [
        Self::BrowseAndOrder,
        Self::Decline,
        Self::StockOut,
        Self::Cancel,
        Self::HotProduct,
    ];

    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::BrowseAndOrder => "browse and order",
            Self::Decline => "declines",
            Self::StockOut => "stock-outs",
            Self::Cancel => "cancels",
            Self::HotProduct => "hot product",
        }
    }

    /// Returns the number of arrivals of a hundred that have this scenario.
    pub fn weight(self) -> u8 {
        match self {
            Self::BrowseAndOrder => 60,
            Self::Decline => 10,
            Self::StockOut => 8,
            Self::Cancel => 7,
            Self::HotProduct => 15,
        }
    }

    fn draw(random: &mut Rng) -> Self {
        let mut mark = random.u8(..100);
        for scenario in Self::ALL {
            if mark < scenario.weight() {
                return scenario;
            }
            mark -= scenario.weight();
        }
        Self::BrowseAndOrder
    }
}

/// The distribution of arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// A Poisson process, as customers arrive who do not know each other.
    Poisson,
    /// Equal distances in time.
    Constant,
}

/// A customer who arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// The time since the first phase began.
    pub at: Duration,
    /// The index of the phase.
    pub phase: usize,
    pub scenario: Scenario,
}

/// The next task of a user of goose.
#[derive(Clone, Debug, PartialEq)]
pub enum Ticket {
    /// A customer arrives.
    Arrival(Arrival),
    /// A customer comes back to cancel.
    Cancel {
        id: OrderId,
        customer: String,
        /// The moment since when the cancel is due.
        wanted: Duration,
    },
}

/// The arrivals of all phases, in order.
#[derive(Clone, Debug)]
pub struct Schedule {
    phases: Vec<Phase>,
    spread: Spread,
    random: Rng,
    phase: usize,
    /// The end of the current phase, in seconds.
    end: f64,
    now: f64,
}

impl Schedule {
    /// Creates a schedule. The same seed makes the same schedule.
    pub fn new(phases: &[Phase], spread: Spread, seed: u64) -> Self {
        Self {
            end: phases.first().map_or(0.0, |phase| phase.seconds),
            phases: phases.to_vec(),
            spread,
            random: Rng::with_seed(seed),
            phase: 0,
            now: 0.0,
        }
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let rate = self.phases.get(self.phase)?.rate;
            let gap = match self.spread {
                // An exponential distribution has no memory: at the end of a phase the gap may be drawn anew.
                Spread::Poisson => -(1.0 - self.random.f64()).ln() / rate,
                Spread::Constant => 1.0 / rate,
            };
            // In nanoseconds: the sum of equal gaps ends a little before the phase does, and that moment belongs to the
            // next phase.
            let at = Duration::from_secs_f64(self.now + gap);
            if at < Duration::from_secs_f64(self.end) {
                self.now += gap;
                return Some(Arrival {
                    at,
                    phase: self.phase,
                    scenario: Scenario::draw(&mut self.random),
                });
            }
            self.now = self.end;
            self.phase += 1;
            self.end += self.phases.get(self.phase)?.seconds;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 2] = [
        Phase {
            seconds: 100.0,
            rate: 50.0,
        },
        Phase {
            seconds: 50.0,
            rate: 200.0,
        },
    ];

    #[test]
    fn weights_are_percentages() {
        let all: u32 = Scenario::ALL
            .iter()
            .map(|scenario| u32::from(scenario.weight()))
            .sum();
        assert_eq!(all, 100);
    }

    #[test]
    fn arrivals_are_in_order_at_the_rates_of_their_phases() {
        for spread in [Spread::Poisson, Spread::Constant] {
            let arrivals: Vec<Arrival> = Schedule::new(&PHASES, spread, 1).collect();
            assert!(arrivals.is_sorted_by_key(|arrival| arrival.at));
            for (phase, expected) in [(0, 5000.0), (1, 10_000.0)] {
                let count = arrivals.iter().filter(|a| a.phase == phase).count();
                #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
                let off = (count as f64 - expected).abs();
                // Four standard deviations of a Poisson count.
                assert!(
                    off < 4.0 * expected.sqrt(),
                    "{spread:?}: {count} in phase {phase}"
                );
            }
            let last = arrivals.last().expect("some").at;
            assert!(
                last > Duration::from_secs(149) && last < Duration::from_secs(150),
                "{last:?}"
            );
        }
    }

    #[test]
    fn gaps_are_exponential() {
        let arrivals: Vec<f64> = Schedule::new(&PHASES[..1], Spread::Poisson, 2)
            .map(|arrival| arrival.at.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = arrivals.windows(2).map(|pair| pair[1] - pair[0]).collect();
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n;
        // The standard deviation of an exponential distribution equals its mean; that of equal gaps is zero.
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.1,
            "{mean} {variance}"
        );
    }

    #[test]
    fn each_scenario_gets_its_share() {
        let arrivals: Vec<Arrival> = Schedule::new(&PHASES, Spread::Constant, 3).collect();
        for scenario in Scenario::ALL {
            let count = arrivals.iter().filter(|a| a.scenario == scenario).count();
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            let share = 100.0 * count as f64 / arrivals.len() as f64;
            assert!(
                (share - f64::from(scenario.weight())).abs() < 2.0,
                "{scenario:?}: {share} %"
            );
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_schedule() {
        let schedule = |seed| Schedule::new(&PHASES, Spread::Poisson, seed).collect::<Vec<_>>();
        assert_eq!(schedule(4), schedule(4));
        assert_ne!(schedule(4), schedule(5));
    }
}
