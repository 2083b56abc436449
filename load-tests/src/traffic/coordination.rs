//! The two ways by which an order can be brought to its end, and which of them is to be taken.

use clap::ValueEnum;

/// How the services agree on an order's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coordination {
    /// Each service reacts to the events of the others.
    Choreography,
    /// The orchestrator tells each of them what to do.
    Orchestration,
}

impl Coordination {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Choreography, Self::Orchestration];

    /// As the order service's API has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Choreography => "choreography",
            Self::Orchestration => "orchestration",
        }
    }

    /// The one that the order service's API calls so.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }
}

/// Which ways orders take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ways {
    /// Each service reacts to the events of the others
    Choreography,
    /// The orchestrator tells each service what to do
    Orchestration,
    /// Half of the orders take the one way, half the other
    Both,
}

impl Ways {
    /// Each of them.
    pub fn all(self) -> &'static [Coordination] {
        match self {
            Self::Choreography => &[Coordination::Choreography],
            Self::Orchestration => &[Coordination::Orchestration],
            Self::Both => &Coordination::ALL,
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            one => one.all()[0].name(),
        }
    }

    /// One of them, by chance.
    pub fn draw(self) -> Coordination {
        let ways = self.all();
        ways[fastrand::usize(..ways.len())]
    }
}
