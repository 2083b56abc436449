//! Prices, from inventory. Asking twice does no harm, so it is retried, within the customer's deadline.

use std::{collections::HashMap, time::Duration};

use chassis::{
    client::{self, Client, TokenFile},
    http::Problem,
};
use contracts::value::{Money, Sku};
use holdfast::{
    backoff::Backoff,
    deadline::Deadline,
    retry::{Budget, GaveUp, Retry},
};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::config::PriceSettings;

/// Asks inventory for prices.
#[derive(Clone, Debug)]
pub(crate) struct Prices {
    client: Client,
    retry: Retry,
    timeout: Duration,
}

#[derive(Serialize)]
struct Request<'a> {
    skus: Vec<&'a Sku>,
}

#[derive(Deserialize)]
struct Response {
    prices: Vec<Price>,
}

#[derive(Deserialize)]
struct Price {
    sku: Sku,
    unit_price: Money,
}

impl Prices {
    pub(crate) fn new(settings: &PriceSettings) -> anyhow::Result<Self> {
        let client = Client::new(
            &settings.inventory_url,
            TokenFile::new(&settings.service_token_file),
        )?;
        let backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500))?;
        // One in five calls may be a retry, and ten in a row.
        let retry = Retry::new(3, backoff).with_budget(Budget::new(0.2, 10)?.into());
        Ok(Self {
            client,
            retry,
            timeout: Duration::from_millis(settings.price_timeout_ms),
        })
    }

    /// The prices of the products that there are. What is not in the answer does not exist.
    pub(crate) async fn of(
        &self,
        skus: &[&Sku],
        deadline: Deadline,
    ) -> Result<HashMap<Sku, Money>, Problem> {
        let deadline = deadline.within(self.timeout);
        let ask = async |_| {
            let request = self.client.post("/prices").json(&Request {
                skus: skus.to_vec(),
            });
            self.client.send::<Response>(request, deadline).await
        };
        let response =
            self.retry
                .run(deadline, ask)
                .await
                .map_err(|error: GaveUp<client::Error>| {
                    warn!(%error, "no prices");
                    Problem::unavailable(
                        "the catalogue cannot be reached, so the order cannot be priced",
                    )
                })?;
        Ok(response
            .prices
            .into_iter()
            .map(|price| (price.sku, price.unit_price))
            .collect())
    }
}
