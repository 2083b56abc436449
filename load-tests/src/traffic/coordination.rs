//! The two ways to coordinate an order.

use clap::ValueEnum;

/// The way in which an order is coordinated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coordination {
    /// Each service reacts to the events of the others.
    Choreography,
    /// The orchestrator sends commands to each of them.
    Orchestration,
}

impl Coordination {
    pub const ALL: [Self; 2] = [Self::Choreography, Self::Orchestration];

    /// Returns the name in the order service's API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Choreography => "choreography",
            Self::Orchestration => "orchestration",
        }
    }

    /// Returns the way that has this name in the order service's API.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// The ways that orders take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ways {
    /// Each service reacts to the events of the others
    Choreography,
    /// The orchestrator sends commands to each service
    Orchestration,
    /// Half of the orders take the one way, half the other
    Both,
}

impl Ways {
    /// Returns each of them.
    pub fn all(self) -> &'static [Coordination] {
        match self {
            Self::Choreography => &[Coordination::Choreography],
            Self::Orchestration => &[Coordination::Orchestration],
            Self::Both => &Coordination::ALL,
        }
    }

    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            one => one.all()[0].name(),
        }
    }

    /// Returns one of the ways, at random.
    pub fn draw(self) -> Coordination {
        let ways = self.all();
        ways[fastrand::usize(..ways.len())]
    }
}
