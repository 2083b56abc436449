//! The demo's products and wallets, brought in through the operator's API. Safe to repeat.

use anyhow::Context;
use serde::Deserialize;

use crate::api::{Api, insist};

const DEMO: &str = include_str!("../../../deploy/seed/demo.json");

#[derive(Deserialize)]
struct Demo {
    products: Vec<Product>,
    wallets: Vec<Wallet>,
}

#[derive(Deserialize)]
struct Product {
    sku: String,
    name: String,
    price_minor: i64,
    currency: String,
    stock: i64,
}

#[derive(Deserialize)]
struct Wallet {
    customer: String,
    currency: String,
    amount_minor: i64,
}

/// Brings in the products and wallets of `deploy/seed/demo.json`, and returns how many there are of each.
pub async fn seed(api: &Api) -> anyhow::Result<(usize, usize)> {
    let demo: Demo = serde_json::from_str(DEMO).context("deploy/seed/demo.json")?;
    for product in &demo.products {
        let Product {
            sku,
            name,
            price_minor,
            currency,
            stock,
        } = product;
        insist(|| api.stock(sku, name, *price_minor, currency, *stock)).await?;
    }
    for wallet in &demo.wallets {
        let Wallet {
            customer,
            currency,
            amount_minor,
        } = wallet;
        insist(|| api.fund(customer, *amount_minor, currency)).await?;
    }
    Ok((demo.products.len(), demo.wallets.len()))
}
