//! The profiles: rates, durations and limits.

use std::time::Duration;

use serde::Serialize;

/// A stretch of time with one rate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// The duration, in seconds.
    pub seconds: f64,
    /// Orders that arrive per second.
    pub rate: f64,
}

/// Limits of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Latency to rest, 99th percentile, in milliseconds.
    pub p99_to_rest_ms: f64,
    /// Share of the arrivals that may fail.
    pub errors: f64,
    /// Orders per second that must be sustained, that is, come to rest as fast as they arrive, within the other two
    /// limits.
    pub sustained: f64,
}

/// A named load and its limits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Profile {
    /// The name on the command line.
    pub name: &'static str,
    /// Its stretches, one after the other.
    pub phases: Vec<Phase>,
    /// The limits within which a run passes.
    pub limits: Limits,
    /// True if the rate rises until the stack cannot keep up. Phases beyond that point are no failure.
    pub to_saturation: bool,
}

/// The profiles' names, with a description of each.
pub const PROFILES: [(&str, &str); 5] = [
    ("smoke", "20 s at 10 orders per second"),
    ("steady", "10 minutes at 50 orders per second"),
    (
        "step",
        "from 40 orders per second a quarter more every 15 s, until the stack cannot follow",
    ),
    (
        "spike",
        "30 s at 20 orders per second, 15 s at five times that, 60 s at 20 again",
    ),
    ("soak", "one hour at 25 orders per second"),
];

/// The most steps of `step`.
const STEPS: i32 = 20;
/// The factor from one step's rate to the next.
const STEP: f64 = 1.25;

impl Profile {
    /// Returns the profile of this name, with another rate or duration if they are given. `seconds` is the duration of
    /// the whole run, of each step for `step`, and of each of the two calm stretches for `spike`.
    pub fn named(name: &str, rate: Option<f64>, seconds: Option<f64>) -> Option<Self> {
        let flat = |usual_seconds: f64, usual_rate: f64| {
            vec![Phase {
                seconds: seconds.unwrap_or(usual_seconds),
                rate: rate.unwrap_or(usual_rate),
            }]
        };
        let (name, phases, p99_to_rest_ms, errors) = match name {
            "smoke" => ("smoke", flat(20.0, 10.0), 3000.0, 0.0),
            "steady" => ("steady", flat(600.0, 50.0), 1500.0, 0.001),
            "soak" => ("soak", flat(3600.0, 25.0), 1500.0, 0.001),
            "step" => {
                let phases = (0..STEPS)
                    .map(|step| Phase {
                        seconds: seconds.unwrap_or(15.0),
                        rate: rate.unwrap_or(40.0) * STEP.powi(step),
                    })
                    .collect();
                ("step", phases, 1500.0, 0.01)
            }
            "spike" => {
                let calm = rate.unwrap_or(20.0);
                let phases = [(30.0, calm), (15.0, calm * 5.0), (60.0, calm)]
                    .map(|(usual, rate)| Phase {
                        seconds: match seconds {
                            Some(seconds) if usual > 15.0 => seconds,
                            _ => usual,
                        },
                        rate,
                    })
                    .to_vec();
                ("spike", phases, 5000.0, 0.01)
            }
            _ => return None,
        };
        let least = phases
            .iter()
            .map(|phase| phase.rate)
            .fold(f64::INFINITY, f64::min);
        Some(Self {
            name,
            to_saturation: name == "step",
            limits: Limits {
                p99_to_rest_ms,
                errors,
                // A count of random arrivals varies, so ten percent less are accepted.
                sustained: least * 0.9,
            },
            phases,
        })
    }

    /// Returns the highest rate of any phase.
    pub fn highest_rate(&self) -> f64 {
        self.phases
            .iter()
            .map(|phase| phase.rate)
            .fold(0.0, f64::max)
    }

    /// Returns the duration of all phases.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.phases.iter().map(|phase| phase.seconds).sum())
    }

    /// Returns the begin and the end of each phase, in seconds since the first one began.
    pub fn spans(&self) -> Vec<(f64, f64)> {
        let mut end = 0.0;
        self.phases
            .iter()
            .map(|phase| {
                let begin = end;
                end += phase.seconds;
                (begin, end)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_that_is_listed_exists() {
        for (name, _) in PROFILES {
            let profile = Profile::named(name, None, None).expect(name);
            assert_eq!(profile.name, name);
            assert!(profile.length() >= Duration::from_secs(20), "{name}");
        }
        assert_eq!(Profile::named("none", None, None), None);
    }

    #[test]
    fn steps_go_up_by_a_quarter() {
        let step = Profile::named("step", Some(100.0), Some(10.0)).expect("step");
        let rates: Vec<f64> = step.phases.iter().take(2).map(|phase| phase.rate).collect();
        assert_eq!(rates, [100.0, 125.0]);
        assert_eq!(step.spans()[2], (20.0, 30.0));
        assert!(step.to_saturation);
    }

    #[test]
    fn a_spike_keeps_its_length() {
        let spike = Profile::named("spike", Some(10.0), Some(5.0)).expect("spike");
        let seconds: Vec<f64> = spike.phases.iter().map(|phase| phase.seconds).collect();
        assert_eq!(seconds, [5.0, 15.0, 5.0]);
        assert!((spike.highest_rate() - 50.0).abs() < f64::EPSILON);
    }
}
