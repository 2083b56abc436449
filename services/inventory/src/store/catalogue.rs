//! Products, their prices and their stock.

use std::collections::BTreeMap;

use contracts::value::{Money, Sku};
use sqlx::{PgConnection, PgExecutor};

use crate::domain::Stock;

/// A product, with its stock.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub(crate) sku: Sku,
    pub(crate) name: String,
    pub(crate) unit_price: Money,
    pub(crate) stock: Stock,
}

struct Row {
    sku: String,
    name: String,
    price_minor: i64,
    currency: String,
    available: i64,
    reserved: i64,
    sold: i64,
    written_off: i64,
}

impl TryFrom<Row> for Product {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let Row {
            available,
            reserved,
            sold,
            written_off,
            ..
        } = row;
        Ok(Self {
            sku: sku(&row.sku)?,
            name: row.name,
            unit_price: price(row.price_minor, &row.currency)?,
            stock: Stock {
                available,
                reserved,
                sold,
                written_off,
            },
        })
    }
}

fn sku(text: &str) -> Result<Sku, sqlx::Error> {
    text.parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn price(minor: i64, currency: &str) -> Result<Money, sqlx::Error> {
    Ok(Money::new(
        minor,
        currency
            .parse()
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
    ))
}

/// Returns at most `limit` products, ordered by SKU, that come after the given one.
pub(crate) async fn list(
    db: impl PgExecutor<'_>,
    after: Option<&Sku>,
    limit: i64,
) -> sqlx::Result<Vec<Product>> {
    let rows = sqlx::query_as!(
        Row,
        "select sku, name, price_minor, currency, available, reserved, sold, written_off
         from product join stock using (sku)
         where $1::text is null or sku > $1
         order by sku
         limit $2",
        after.map(Sku::as_str),
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Returns a product, if it exists.
pub(crate) async fn show(db: impl PgExecutor<'_>, sku: &Sku) -> sqlx::Result<Option<Product>> {
    let row = sqlx::query_as!(
        Row,
        "select sku, name, price_minor, currency, available, reserved, sold, written_off
         from product join stock using (sku) where sku = $1",
        sku.as_str(),
    )
    .fetch_optional(db)
    .await?;
    row.map(TryInto::try_into).transpose()
}

/// Returns the prices of those of these products that exist.
pub(crate) async fn prices(
    db: impl PgExecutor<'_>,
    skus: &[Sku],
) -> sqlx::Result<Vec<(Sku, Money)>> {
    let skus: Vec<String> = skus.iter().map(|sku| sku.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        "select sku, price_minor, currency from product where sku = any($1)",
        &skus
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| Ok((sku(&row.sku)?, price(row.price_minor, &row.currency)?)))
        .collect()
}

/// Creates a product, or changes its name and price. Orders that are priced already keep their price.
pub(crate) async fn put_product(
    conn: &mut PgConnection,
    sku: &Sku,
    name: &str,
    unit_price: Money,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into product (sku, name, price_minor, currency) values ($1, $2, $3, $4)
         on conflict (sku) do update
         set name = excluded.name, price_minor = excluded.price_minor, currency = excluded.currency, updated_at = now()",
        sku.as_str(),
        name,
        unit_price.amount_minor,
        unit_price.currency.as_str(),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into stock (sku) values ($1) on conflict do nothing",
        sku.as_str()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Adds delivered units, once per key. Returns false if this key was used before. The product must exist.
pub(crate) async fn deliver(
    conn: &mut PgConnection,
    key: &str,
    sku: &Sku,
    quantity: i64,
    operator: &str,
) -> sqlx::Result<bool> {
    let recorded = sqlx::query!(
        "insert into delivery (key, sku, quantity, operator) values ($1, $2, $3, $4) on conflict do nothing",
        key,
        sku.as_str(),
        quantity,
        operator,
    )
    .execute(&mut *conn)
    .await?;
    if recorded.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query!(
        "update stock set available = available + $2, stocked = stocked + $2 where sku = $1",
        sku.as_str(),
        quantity,
    )
    .execute(conn)
    .await?;
    Ok(true)
}

/// Returns the product and the units that were delivered under this key.
pub(crate) async fn delivery(
    conn: &mut PgConnection,
    key: &str,
) -> sqlx::Result<Option<(Sku, i64)>> {
    let row = sqlx::query!("select sku, quantity from delivery where key = $1", key)
        .fetch_optional(conn)
        .await?;
    row.map(|row| Ok((sku(&row.sku)?, row.quantity)))
        .transpose()
}

/// Locks the stock of these products, in the order of their SKUs. Returns the stock of those that exist.
pub(crate) async fn lock_stock(
    conn: &mut PgConnection,
    skus: &[Sku],
) -> sqlx::Result<BTreeMap<Sku, Stock>> {
    let skus: Vec<String> = skus.iter().map(|sku| sku.as_str().to_owned()).collect();
    let rows = sqlx::query!(
        "select sku, available, reserved, sold, written_off from stock where sku = any($1) order by sku for update",
        &skus,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let (available, reserved, sold, written_off) =
                (row.available, row.reserved, row.sold, row.written_off);
            Ok((
                sku(&row.sku)?,
                Stock {
                    available,
                    reserved,
                    sold,
                    written_off,
                },
            ))
        })
        .collect()
}

/// Writes locked stock back: one final row per product.
pub(crate) async fn save_stock(
    conn: &mut PgConnection,
    stock: &BTreeMap<Sku, Stock>,
) -> sqlx::Result<()> {
    let skus: Vec<String> = stock.keys().map(|sku| sku.as_str().to_owned()).collect();
    let column = |of: fn(&Stock) -> i64| -> Vec<i64> { stock.values().map(of).collect() };
    sqlx::query!(
        "update stock
         set available = new.available, reserved = new.reserved, sold = new.sold, written_off = new.written_off
         from unnest($1::text[], $2::int8[], $3::int8[], $4::int8[], $5::int8[])
              as new (sku, available, reserved, sold, written_off)
         where stock.sku = new.sku",
        &skus,
        &column(|stock| stock.available),
        &column(|stock| stock.reserved),
        &column(|stock| stock.sold),
        &column(|stock| stock.written_off),
    )
    .execute(conn)
    .await?;
    Ok(())
}
