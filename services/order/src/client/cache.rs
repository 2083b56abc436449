//! The prices that inventory last returned, for the time while it is unavailable.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use contracts::value::{Money, Sku};
use time::OffsetDateTime;
use tokio::time::Instant;

/// The number of products that are remembered at most.
const MOST: usize = 10_000;

/// The known prices, by product.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<Sku, Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    price: Money,
    /// The time of the request: the price was valid then or a little later.
    asked: Instant,
    as_of: OffsetDateTime,
}

impl Cache {
    /// Remembers prices that inventory returned to a request made at `asked`. Newer prices are kept.
    pub(super) fn remember(&self, prices: &HashMap<Sku, Money>, asked: Instant) {
        let as_of = OffsetDateTime::now_utc() - asked.elapsed();
        // As exact as the database keeps it, so that an order shows the same time when it is placed and when it is
        // read.
        let as_of = as_of.truncate_to_microsecond();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (sku, price) in prices {
            let is_older = |known: &Known| known.asked <= asked;
            if known.get(sku).is_none_or(is_older) {
                known.insert(
                    sku.clone(),
                    Known {
                        price: *price,
                        asked,
                        as_of,
                    },
                );
            }
        }
        while known.len() > MOST {
            let oldest = known.iter().min_by_key(|(_, known)| known.asked);
            let Some(oldest) = oldest.map(|(sku, _)| sku.clone()) else {
                return;
            };
            known.remove(&oldest);
        }
    }

    /// Returns the prices of all of these, and the time of the oldest; `None` if one is unknown or older than `age`. An
    /// unknown product may exist or not.
    pub(super) fn recall(
        &self,
        skus: &[&Sku],
        age: Duration,
    ) -> Option<(HashMap<Sku, Money>, OffsetDateTime)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut oldest = OffsetDateTime::now_utc();
        let mut prices = HashMap::with_capacity(skus.len());
        for sku in skus {
            let known = known
                .get(*sku)
                .filter(|known| known.asked.elapsed() <= age)?;
            oldest = oldest.min(known.as_of);
            prices.insert((*sku).clone(), known.price);
        }
        Some((prices, oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sku(name: &str) -> Sku {
        name.parse().expect("a name")
    }

    fn money(amount: i64) -> Money {
        Money::new(amount, "EUR".parse().expect("a currency"))
    }

    #[tokio::test(start_paused = true)]
    async fn recall_needs_every_price_and_none_too_old() {
        let (tea, cup) = (sku("TEA"), sku("CUP"));
        let cache = Cache::default();
        let age = Duration::from_secs(60);
        cache.remember(&HashMap::from([(tea.clone(), money(300))]), Instant::now());
        tokio::time::advance(Duration::from_secs(40)).await;
        assert!(cache.recall(&[&tea, &cup], age).is_none());

        cache.remember(&HashMap::from([(cup.clone(), money(900))]), Instant::now());
        let (prices, _) = cache.recall(&[&tea, &cup], age).expect("both are fresh");
        assert_eq!((prices[&tea], prices[&cup]), (money(300), money(900)));

        tokio::time::advance(Duration::from_secs(21)).await;
        assert!(cache.recall(&[&tea], age).is_none(), "61 s old");
        assert!(cache.recall(&[&cup], age).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_does_not_replace_a_newer_one() {
        let tea = sku("TEA");
        let cache = Cache::default();
        let earlier = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        cache.remember(&HashMap::from([(tea.clone(), money(310))]), Instant::now());
        cache.remember(&HashMap::from([(tea.clone(), money(300))]), earlier);
        let (prices, _) = cache
            .recall(&[&tea], Duration::from_secs(60))
            .expect("fresh");
        assert_eq!(prices[&tea], money(310));
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded() {
        let cache = Cache::default();
        let first = sku("SKU-0");
        for number in 0..=MOST {
            tokio::time::advance(Duration::from_millis(1)).await;
            let prices = HashMap::from([(sku(&format!("SKU-{number}")), money(1))]);
            cache.remember(&prices, Instant::now());
        }
        assert!(cache.recall(&[&first], Duration::from_secs(3600)).is_none());
        let second = sku("SKU-1");
        assert!(
            cache
                .recall(&[&second], Duration::from_secs(3600))
                .is_some()
        );
    }
}
