//! Wallets, and the deposits into them.

use std::collections::BTreeMap;

use contracts::value::{Currency, CustomerId, Money};
use sqlx::{PgConnection, PgExecutor};

/// The key of a wallet: a customer has one per currency.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AccountKey {
    pub(crate) customer: CustomerId,
    pub(crate) currency: Currency,
}

/// Parses a value that is stored as text.
pub(super) fn decode<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    text: &str,
) -> sqlx::Result<T> {
    text.parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Locks these wallets, in the order of their keys. Returns the balances of those that exist, in minor units.
pub(crate) async fn lock_accounts(
    conn: &mut PgConnection,
    keys: &[AccountKey],
) -> sqlx::Result<BTreeMap<AccountKey, i64>> {
    let customers: Vec<String> = keys.iter().map(|key| key.customer.to_string()).collect();
    let currencies: Vec<String> = keys.iter().map(|key| key.currency.to_string()).collect();
    let rows = sqlx::query!(
        "select customer_id, currency, balance_minor from account
         where (customer_id, currency) in (select * from unnest($1::text[], $2::text[]))
         order by customer_id, currency
         for update",
        &customers,
        &currencies,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let key = AccountKey {
                customer: decode(&row.customer_id)?,
                currency: decode(&row.currency)?,
            };
            Ok((key, row.balance_minor))
        })
        .collect()
}

/// Writes locked wallets back: one final row per wallet.
pub(crate) async fn save_accounts(
    conn: &mut PgConnection,
    balances: &BTreeMap<AccountKey, i64>,
) -> sqlx::Result<()> {
    let customers: Vec<String> = balances
        .keys()
        .map(|key| key.customer.to_string())
        .collect();
    let currencies: Vec<String> = balances
        .keys()
        .map(|key| key.currency.to_string())
        .collect();
    let amounts: Vec<i64> = balances.values().copied().collect();
    sqlx::query!(
        "update account set balance_minor = new.balance_minor
         from unnest($1::text[], $2::text[], $3::int8[]) as new (customer_id, currency, balance_minor)
         where account.customer_id = new.customer_id and account.currency = new.currency",
        &customers,
        &currencies,
        &amounts,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Returns a customer's balances, ordered by currency; none if the customer has no wallet.
pub(crate) async fn balances(
    db: impl PgExecutor<'_>,
    customer: &CustomerId,
) -> sqlx::Result<Vec<Money>> {
    let rows = sqlx::query!(
        "select currency, balance_minor from account where customer_id = $1 order by currency",
        customer.as_str(),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| Ok(Money::new(row.balance_minor, decode(&row.currency)?)))
        .collect()
}

/// Pays money into a wallet, once per key; opens the wallet if there is none. If the key was used before, returns the
/// customer and the amount that it was used for.
pub(crate) async fn deposit(
    conn: &mut PgConnection,
    key: &str,
    customer: &CustomerId,
    amount: Money,
    operator: &str,
) -> sqlx::Result<Option<(CustomerId, Money)>> {
    let currency = amount.currency.as_str();
    sqlx::query!(
        "insert into account (customer_id, currency, balance_minor) values ($1, $2, 0) on conflict do nothing",
        customer.as_str(),
        currency,
    )
    .execute(&mut *conn)
    .await?;
    let new = sqlx::query!(
        "insert into deposit (key, customer_id, currency, amount_minor, operator) values ($1, $2, $3, $4, $5)
         on conflict do nothing",
        key,
        customer.as_str(),
        currency,
        amount.amount_minor,
        operator,
    )
    .execute(&mut *conn)
    .await?;
    if new.rows_affected() == 0 {
        let before = sqlx::query!(
            "select customer_id, currency, amount_minor from deposit where key = $1",
            key
        )
        .fetch_one(conn)
        .await?;
        let amount = Money::new(before.amount_minor, decode(&before.currency)?);
        return Ok(Some((decode(&before.customer_id)?, amount)));
    }
    sqlx::query!(
        "update account set balance_minor = balance_minor + $3 where customer_id = $1 and currency = $2",
        customer.as_str(),
        currency,
        amount.amount_minor,
    )
    .execute(conn)
    .await?;
    Ok(None)
}
