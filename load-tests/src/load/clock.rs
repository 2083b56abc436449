//! The order service's clock, translated into ours without the assumption that they agree.
//!
//! An order is created after its request was sent and before its response arrived. So each accepted order gives an
//! interval of our clock in which its `created_at` lies, and the narrowest intersection of these intervals places the
//! service's clock on ours, to a few milliseconds. With that, `updated_at` says when an order came to rest more exactly
//! than polling does.

use std::time::Duration;

use time::OffsetDateTime;

/// The bounds of the service's time at our moment zero.
#[derive(Clone, Copy, Debug, Default)]
pub struct TheirClock {
    bounds: Option<(OffsetDateTime, OffsetDateTime)>,
}

impl TheirClock {
    /// Learns from an order that was sent and answered on our clock, and created on theirs.
    pub fn learn(&mut self, sent: Duration, answered: Duration, created: OffsetDateTime) {
        let (earliest, latest) = (created - answered, created - sent);
        self.bounds = Some(match self.bounds {
            Some((low, high)) if low.max(earliest) <= high.min(latest) => {
                (low.max(earliest), high.min(latest))
            }
            // This is the first order; or one of the clocks was set, so that the earlier bounds are void.
            _ => (earliest, latest),
        });
    }

    /// Returns a moment of their clock on ours; `None` if no order was learnt from, or if it is before our moment zero.
    pub fn translate(&self, theirs: OffsetDateTime) -> Option<Duration> {
        let (low, high) = self.bounds?;
        Duration::try_from(theirs - (low + (high - low) / 2)).ok()
    }

    /// Returns the largest possible error of a translation.
    pub fn uncertainty(&self) -> Option<Duration> {
        let (low, high) = self.bounds?;
        Duration::try_from((high - low) / 2).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_narrowest_of_all_intervals_counts() {
        // Their clock is at noon when ours is at zero.
        let noon = OffsetDateTime::UNIX_EPOCH + millis(43_200_000);
        let mut clock = TheirClock::default();
        assert_eq!(clock.translate(noon), None);
        clock.learn(millis(1000), millis(1100), noon + millis(1010));
        assert_eq!(clock.uncertainty(), Some(millis(50)));
        clock.learn(millis(2000), millis(2100), noon + millis(2090));
        assert_eq!(clock.uncertainty(), Some(millis(10)));
        assert_eq!(clock.translate(noon + millis(3000)), Some(millis(3000)));
    }

    #[test]
    fn a_clock_that_was_set_is_learnt_anew() {
        let noon = OffsetDateTime::UNIX_EPOCH + millis(43_200_000);
        let mut clock = TheirClock::default();
        clock.learn(millis(10), millis(12), noon + millis(11));
        let one = noon + millis(3_600_000);
        clock.learn(millis(20), millis(24), one + millis(22));
        assert_eq!(clock.translate(one + millis(30)), Some(millis(30)));
    }
}
