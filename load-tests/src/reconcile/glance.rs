//! A look at the books of a system that is at work: the rules of [`reconcile`](super::reconcile) as sums, which the
//! databases add up, so that a look needs the same memory however large the books are.
//!
//! A rule within one database holds at every moment, as each transaction keeps it. A rule that compares two of them, or
//! the end of an order with its consequences, can be judged only when nothing moves; until then it waits. If such a
//! rule fails, it is a suspect, and counts as broken if it fails at the next look as well, with nothing moving.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;
use sqlx::PgPool;

use super::{
    Sources,
    books::Reader,
    broker::Broker,
    quiescence::{self, Unrest},
    sagas,
};

/// The verdict of a look on a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is kept.
    Holds,
    /// It cannot be judged before what is in flight has come to rest, or before an operator has acted.
    Waits,
    /// It is broken.
    Broken,
}

/// A rule, and the verdict of a look on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The rule's name.
    pub name: &'static str,
    /// An explanation for a person.
    pub what: &'static str,
    pub verdict: Verdict,
    /// The figures that were compared.
    pub detail: String,
}

/// Looks at the books repeatedly, and remembers the suspects.
pub struct Glance {
    reader: Reader,
    broker: Broker,
    /// The rules that failed at the last look, though nothing moved. A std lock: never held across an await.
    suspects: Mutex<BTreeSet<&'static str>>,
}

/// Rows of a currency and three sums: paid in, in wallets, taken.
type Sums = Vec<(String, i64, i64, i64)>;

impl Glance {
    /// Creates a glance at these sources. It connects at the first look.
    pub fn new(sources: &Sources) -> anyhow::Result<Self> {
        Ok(Self {
            reader: Reader::new(sources)?,
            broker: Broker::new(sources)?,
            suspects: Mutex::default(),
        })
    }

    /// Looks once and returns a check for each rule.
    pub async fn look(&self) -> anyhow::Result<Vec<Check>> {
        let before = quiescence::look(&self.reader, &self.broker).await?;
        let wallets = wallets(&self.reader.payment).await?;
        let negative = negative(&self.reader.payment).await?;
        let (ours, theirs) = (
            card_sums(&self.reader.payment).await?,
            ledger_sums(&self.reader.card_processor).await?,
        );
        let twice = charged_twice(&self.reader.card_processor).await?;
        let stock = stock(&self.reader.inventory).await?;
        let ends = ends(&self.reader).await?;
        let ways = ways(&self.reader.order).await?;
        let sagas = sagas::count(&self.reader.orchestrator).await?;
        let mails = mails(&self.reader.notification).await?;
        let mut parked = 0;
        for (_, pool) in self.reader.services() {
            parked += holdfast::messaging::parking::open(pool).await?;
        }
        let after = quiescence::look(&self.reader, &self.broker).await?;

        let at_rest = before.is_over() && after.is_over();
        let mut checks = vec![
            everything_ends(&after),
            held(
                "wallet money is kept",
                "what was paid in is in a wallet, or was taken for an order",
                wallets
                    .iter()
                    .all(|(_, paid, there, taken)| *paid == there + taken),
                sums(&wallets, |(currency, paid, there, taken)| {
                    format!("{currency}: {paid} paid in = {there} there + {taken} taken")
                }),
            ),
            held(
                "no wallet is negative",
                "no customer spends more than the wallet holds",
                negative == 0,
                format!("{negative} wallets below zero"),
            ),
            held(
                "a card is charged once",
                "and refunded at most once, by the card processor's own ledger",
                twice == 0,
                format!("{twice} orders charged or refunded twice"),
            ),
            held(
                "stock is exact",
                "available + reserved + sold = delivered, for each product, and as much as the reservations say",
                stock.1.is_empty(),
                if stock.1.is_empty() {
                    format!("{} products", stock.0)
                } else {
                    format!("not for {}", stock.1.join(", "))
                },
            ),
        ];
        let kept = |currency: &String| {
            let found = theirs.iter().find(|(of, _)| of == currency);
            found.map_or(0, |(_, sum)| *sum)
        };
        let cards_agree = ours.iter().all(|(currency, sum)| kept(currency) == *sum)
            && theirs.iter().all(|(currency, sum)| {
                *sum == 0 || ours.iter().any(|(of, ours)| of == currency && ours == sum)
            });
        checks.push(self.compared(
            at_rest,
            "card money agrees",
            "what the card processor keeps is what our books say that confirmed orders cost",
            cards_agree,
            sums(&ours, |(currency, sum)| {
                format!(
                    "{currency}: our books {sum}, the card processor {}",
                    kept(currency)
                )
            }),
        ));
        checks.push(self.compared(
            at_rest,
            "orders, money and stock agree",
            "confirmed means paid and sold, cancelled means neither",
            ends.confirmed == ends.captured
                && ends.confirmed == ends.sold
                && ends.confirmed_minor == ends.captured_minor,
            format!(
                "{} confirmed, {} paid, {} sold",
                ends.confirmed, ends.captured, ends.sold
            ),
        ));
        checks.push(self.compared(
            at_rest,
            "sagas and orders agree",
            "each orchestrated order has its saga, which is completed if the order was confirmed, and a second one if it was \
             undone after that",
            (ways.orchestrated, ways.undone) == (sagas.placing, sagas.undoing)
                && (sagas.placed..=sagas.placed + sagas.abandoned).contains(&ways.confirmed),
            format!(
                "{} orchestrated orders, {} sagas; of them {} confirmed, {} completed; {} undone after that, {} sagas",
                ways.orchestrated,
                sagas.placing,
                ways.confirmed,
                sagas.placed,
                ways.undone,
                sagas.undoing
            ),
        ));
        checks.push(self.compared(
            at_rest,
            "each ended order has its mail",
            "the customer is told once of each end",
            mails.1 == ends.cancelled && mails.0 >= ends.confirmed,
            format!(
                "{} mails of {} confirmed orders, {} of {} cancelled",
                mails.0, ends.confirmed, mails.1, ends.cancelled
            ),
        ));
        checks.push(Check {
            name: "nothing is parked",
            what: "no message waits for an operator",
            verdict: if parked == 0 {
                Verdict::Holds
            } else {
                Verdict::Waits
            },
            detail: format!("{parked} parked"),
        });
        Ok(checks)
    }

    /// Judges a rule that holds only when nothing moves.
    fn compared(
        &self,
        at_rest: bool,
        name: &'static str,
        what: &'static str,
        holds: bool,
        detail: String,
    ) -> Check {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = match (at_rest, holds) {
            (false, _) => {
                suspects.remove(name);
                Verdict::Waits
            }
            (true, true) => {
                suspects.remove(name);
                Verdict::Holds
            }
            // New among the suspects: the first failure.
            (true, false) if suspects.insert(name) => Verdict::Waits,
            (true, false) => Verdict::Broken,
        };
        Check {
            name,
            what,
            verdict,
            detail,
        }
    }
}

/// Judges a rule that holds at every moment.
fn held(name: &'static str, what: &'static str, holds: bool, detail: String) -> Check {
    Check {
        name,
        what,
        verdict: if holds {
            Verdict::Holds
        } else {
            Verdict::Broken
        },
        detail,
    }
}

fn sums<T>(rows: &[T], line: impl Fn(&T) -> String) -> String {
    rows.iter().map(line).collect::<Vec<_>>().join("; ")
}

fn everything_ends(unrest: &Unrest) -> Check {
    let moving = unrest.orders.len();
    let stuck = unrest.stuck.len();
    let stuck_sagas = unrest.stuck_sagas.len();
    let waiting: i64 = unrest.outboxes.iter().map(|(_, rows, _)| rows).sum();
    let queued: u64 = unrest
        .queues
        .iter()
        .map(|(_, ready, unacknowledged)| ready + unacknowledged)
        .sum();
    let waits: Vec<String> = [
        (stuck, "of them stuck"),
        (stuck_sagas, "sagas stuck or broken"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!(", {count} {what}"))
    .collect();
    let operator = if waits.is_empty() {
        String::new()
    } else {
        format!("{}: an operator must act", waits.concat())
    };
    Check {
        name: "every order comes to rest",
        what: "confirmed, or fully undone; and then outboxes, queues and outward calls are empty",
        verdict: if unrest.is_over() {
            Verdict::Holds
        } else {
            Verdict::Waits
        },
        detail: format!(
            "{moving} orders in flight{operator}; {waiting} messages in outboxes, {queued} in queues, {} card calls, {} mails",
            unrest.card_calls, unrest.mails
        ),
    }
}

/// Returns per currency the sums paid in, in wallets and taken. One statement, so all are of one moment.
async fn wallets(payment: &PgPool) -> sqlx::Result<Sums> {
    sqlx::query_as(
        "with paid as (select currency, sum(amount_minor)::int8 as minor from deposit group by currency),
              there as (select currency, sum(balance_minor)::int8 as minor from account group by currency),
              taken as (
                  select payment.currency,
                         sum(case when payment.state in ('captured', 'refunding') then payment.amount_minor
                                  when payment.state = 'settled' then coalesce(settlement.amount_minor, 0)
                                  else 0 end)::int8 as minor
                  from payment left join settlement using (order_id)
                  where payment.method = 'wallet' group by payment.currency)
         select currency, coalesce(paid.minor, 0), coalesce(there.minor, 0), coalesce(taken.minor, 0)
         from paid full join there using (currency) full join taken using (currency) order by currency",
    )
    .fetch_all(payment)
    .await
}

async fn negative(payment: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar("select count(*) from account where balance_minor < 0")
        .fetch_one(payment)
        .await
}

/// Returns per currency the sum that our books say cards have paid and not got back.
async fn card_sums(payment: &PgPool) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as(
        "select payment.currency,
                sum(case when payment.state in ('captured', 'refunding') then payment.amount_minor
                         when payment.state = 'settled' then coalesce(settlement.amount_minor, 0)
                         else 0 end)::int8
         from payment left join settlement using (order_id)
         where payment.method = 'card' group by payment.currency order by payment.currency",
    )
    .fetch_all(payment)
    .await
}

/// Returns per currency the card processor's captures less its refunds.
async fn ledger_sums(card_processor: &PgPool) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as(
        "select currency, sum(case kind when 'capture' then amount_minor else -amount_minor end)::int8
         from ledger group by currency order by currency",
    )
    .fetch_all(card_processor)
    .await
}

async fn charged_twice(card_processor: &PgPool) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select count(*) from (
             select reference from ledger join charge on charge.id = charge_id group by reference
             having count(*) filter (where kind = 'capture') > 1
                 or count(*) filter (where kind = 'refund') > count(*) filter (where kind = 'capture')) as twice",
    )
    .fetch_one(card_processor)
    .await
}

/// Returns the number of products, and up to 20 of those whose units do not add up.
async fn stock(inventory: &PgPool) -> sqlx::Result<(i64, Vec<String>)> {
    let wrong = sqlx::query_scalar(
        "with held as (
             select line ->> 'sku' as sku,
                    sum((line ->> 'quantity')::int8) filter (where state = 'reserved') as reserved,
                    sum((line ->> 'quantity')::int8) filter (where state = 'sold') as sold,
                    sum((line ->> 'quantity')::int8) filter (where state = 'settled') as settled
             from reservation, jsonb_array_elements(lines) as line
             where state in ('reserved', 'sold', 'settled') group by 1),
         delivered as (select sku, sum(quantity) as units from delivery group by sku)
         select stock.sku from stock left join held using (sku) left join delivered using (sku)
         where stock.available < 0
            or stock.available + stock.reserved + stock.sold + stock.written_off <> stock.stocked
            or stock.stocked <> coalesce(delivered.units, 0)
            or stock.reserved <> coalesce(held.reserved, 0)
            or stock.sold <> coalesce(held.sold, 0)
            or stock.written_off <> coalesce(held.settled, 0)
         order by 1 limit 20",
    );
    let products = sqlx::query_scalar("select count(*) from stock");
    Ok((
        products.fetch_one(inventory).await?,
        wrong.fetch_all(inventory).await?,
    ))
}

/// The ends of orders, by the databases of three services.
struct Ends {
    confirmed: i64,
    confirmed_minor: i64,
    cancelled: i64,
    captured: i64,
    captured_minor: i64,
    sold: i64,
}

async fn ends(reader: &Reader) -> sqlx::Result<Ends> {
    let (confirmed, confirmed_minor, cancelled) = sqlx::query_as(
        "select count(*) filter (where state = 'confirmed' and committed),
                coalesce(sum(amount_minor) filter (where state = 'confirmed' and committed), 0)::int8,
                count(*) filter (where state = 'cancelled')
         from orders",
    )
    .fetch_one(&reader.order)
    .await?;
    let (captured, captured_minor) = sqlx::query_as(
        "select count(*), coalesce(sum(amount_minor), 0)::int8 from payment where state = 'captured'",
    )
    .fetch_one(&reader.payment)
    .await?;
    let sold = sqlx::query_scalar("select count(*) from reservation where state = 'sold'")
        .fetch_one(&reader.inventory)
        .await?;
    Ok(Ends {
        confirmed,
        confirmed_minor,
        cancelled,
        captured,
        captured_minor,
        sold,
    })
}

/// The orders that took the orchestrated way.
struct Ways {
    orchestrated: i64,
    /// Those of them that were confirmed, whatever came after.
    confirmed: i64,
    /// Those that were cancelled after they were confirmed.
    undone: i64,
}

async fn ways(order: &PgPool) -> sqlx::Result<Ways> {
    let (orchestrated, confirmed, undone) = sqlx::query_as(
        "select count(*), count(*) filter (where was_confirmed),
                count(*) filter (where was_confirmed and state in ('cancelling', 'cancelled'))
         from orders where coordination = 'orchestration'",
    )
    .fetch_one(order)
    .await?;
    Ok(Ways {
        orchestrated,
        confirmed,
        undone,
    })
}

/// Returns the numbers of mails about a confirmation, and about a cancellation.
async fn mails(notification: &PgPool) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "select count(*) filter (where kind = 'order.confirmed'), count(*) filter (where kind = 'order.cancelled') from mail",
    )
    .fetch_one(notification)
    .await
}
