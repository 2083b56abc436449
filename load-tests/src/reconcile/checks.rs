//! The rules that the books must keep.

use std::collections::{BTreeMap, HashSet};

use sqlx::types::Uuid;

use super::{
    Report, Wanted,
    books::{Books, Order, Payment},
    sagas,
};
use crate::api::UNHEARD_OF;

/// Compares the books.
pub(super) fn check(books: &Books, wanted: &Wanted, report: &mut Report) {
    orders(books, wanted, report);
    for (id, order) in &books.orders {
        one_order(books, *id, order, report);
    }
    strangers(books, report);
    wallets(books, report);
    cards(books, report);
    stock(books, report);
    sagas::check(books, report);
    parked(books, report);
}

fn is_at_rest(order: &Order) -> bool {
    order.state == "cancelled" || (order.state == "confirmed" && order.committed)
}

fn orders(books: &Books, wanted: &Wanted, report: &mut Report) {
    let accepted = &wanted.accepted;
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for order in books.orders.values() {
        let end = match &order.reason {
            Some(reason) => format!("{} ({reason})", order.state),
            None => order.state.clone(),
        };
        *ends.entry(end).or_default() += 1;
    }
    let ends: Vec<String> = ends
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    report.fact(format!(
        "{} orders: {}",
        books.orders.len(),
        ends.join(", ")
    ));
    let orchestrated = books
        .orders
        .values()
        .filter(|order| order.is_orchestrated());
    report.fact(format!(
        "{} of them took the orchestrated way",
        orchestrated.count()
    ));
    if !accepted.is_empty() {
        report.fact(format!(
            "{} orders were accepted by the journal, and each is looked for",
            accepted.len()
        ));
    }
    for id in accepted {
        if !books.orders.contains_key(&id.0) {
            report.find("every accepted order exists", id.to_string());
        }
    }
    if wanted.none_by_deadline {
        let overdue = books
            .orders
            .values()
            .filter(|order| order.reason.as_deref() == Some("deadline"));
        for order in overdue {
            report.find(
                "no order is cancelled by its deadline",
                order.id.to_string(),
            );
        }
    }
    let heard: HashSet<&Uuid> = books.heard.iter().collect();
    for id in books.orders.keys().filter(|id| !heard.contains(id)) {
        report.find("every order's creation was published", id.to_string());
    }
}

/// Compares one order with all books.
fn one_order(books: &Books, id: Uuid, order: &Order, report: &mut Report) {
    if !is_at_rest(order) {
        return report.find("every order is at rest", format!("{id} is {}", order.state));
    }
    let payment = books.payments.get(&id);
    let payment_state = payment.map_or(UNHEARD_OF, |payment| payment.state.as_str());
    let reservation = books.reservations.get(&id);
    let stock_state = reservation.map_or(UNHEARD_OF, |reservation| reservation.state.as_str());

    // The orchestrator asks a participant to undo something only if it had asked it to do something.
    let was_not_asked = |state| order.is_orchestrated() && state == UNHEARD_OF;
    // The state of each participant that fits the order's end.
    let (payment_fits, stock_fits) = if order.state == "confirmed" {
        (payment_state == "captured", stock_state == "sold")
    } else {
        let payment_fits = match order.payment_answer.as_deref() {
            Some("undone") => payment_state == "refunded",
            Some("nothing_to_undo") => {
                ["declined", "void"].contains(&payment_state) || was_not_asked(payment_state)
            }
            Some("settled") => payment_state == "settled",
            _ => false,
        };
        let stock_fits = match order.inventory_answer.as_deref() {
            Some("undone") => stock_state == "released",
            Some("nothing_to_undo") => {
                ["rejected", "void"].contains(&stock_state) || was_not_asked(stock_state)
            }
            Some("settled") => stock_state == "settled",
            _ => false,
        };
        (payment_fits, stock_fits)
    };
    if !payment_fits {
        let answer = order.payment_answer.as_deref().unwrap_or("-");
        report.find(
            "money agrees with the order",
            format!(
                "{id} is {} ({answer}), payment {payment_state}",
                order.state
            ),
        );
    }
    if !stock_fits {
        let answer = order.inventory_answer.as_deref().unwrap_or("-");
        report.find(
            "stock agrees with the order",
            format!("{id} is {} ({answer}), stock {stock_state}", order.state),
        );
    }
    if let Some(payment) = payment.filter(|payment| payment.amount_minor.is_some()) {
        same_terms(id, order, payment, report);
    }
    if let Some(lines) = reservation.and_then(|reservation| reservation.lines.as_ref()) {
        let ordered: Vec<_> = order
            .lines
            .iter()
            .map(|line| (&line.sku, line.quantity))
            .collect();
        let reserved: Vec<_> = lines
            .iter()
            .map(|line| (&line.sku, line.quantity))
            .collect();
        if ordered != reserved {
            report.find(
                "what is reserved is what was ordered",
                format!("{id}: {ordered:?}, {reserved:?}"),
            );
        }
    }
    let kind = format!("order.{}", order.state);
    let mails = books.mails.get(&id).map(Vec::as_slice).unwrap_or_default();
    if mails.iter().filter(|(of, _)| *of == kind).count() != 1 {
        report.find(
            "each ended order has its mail",
            format!("{id} is {}, mails: {mails:?}", order.state),
        );
    }
}

fn same_terms(id: Uuid, order: &Order, payment: &Payment, report: &mut Report) {
    let ordered = (
        Some(order.amount_minor),
        Some(&order.currency),
        Some(&order.method),
        Some(&order.customer_id),
    );
    let charged = (
        payment.amount_minor,
        payment.currency.as_ref(),
        payment.method.as_ref(),
        payment.customer_id.as_ref(),
    );
    if ordered != charged {
        report.find(
            "what is charged is what was ordered",
            format!("{id}: {ordered:?}, {charged:?}"),
        );
    }
}

/// Finds payments, reservations and ledger entries of orders that were never accepted.
fn strangers(books: &Books, report: &mut Report) {
    let unknown = |id: &&Uuid| !books.orders.contains_key(*id);
    for id in books.payments.keys().filter(unknown) {
        report.find("each payment belongs to an order", id.to_string());
    }
    for id in books.reservations.keys().filter(unknown) {
        report.find("each reservation belongs to an order", id.to_string());
    }
    for id in books
        .ledger
        .keys()
        .filter(|id| !books.payments.contains_key(id))
    {
        report.find(
            "each entry of the card processor's ledger belongs to a payment",
            id.to_string(),
        );
    }
}

/// Returns the sum that our books say is taken by payments of this method, per key, in minor units.
fn taken<K: Ord>(books: &Books, method: &str, key: impl Fn(&Payment) -> K) -> BTreeMap<K, i64> {
    let mut taken = BTreeMap::new();
    for (id, payment) in &books.payments {
        if payment.method.as_deref() != Some(method) {
            continue;
        }
        let amount = match payment.state.as_str() {
            "captured" | "refunding" => payment.amount_minor.unwrap_or(0),
            // Written off: taken, and not given back by any service.
            "settled" => books.settled_money.get(id).copied().unwrap_or(0),
            _ => 0,
        };
        *taken.entry(key(payment)).or_default() += amount;
    }
    taken
}

fn currency(payment: &Payment) -> String {
    payment.currency.clone().unwrap_or_default()
}

/// Checks that wallet money is in a wallet, or was taken.
fn wallets(books: &Books, report: &mut Report) {
    let by_wallet = taken(books, "wallet", |payment| {
        (
            payment.customer_id.clone().unwrap_or_default(),
            currency(payment),
        )
    });
    let mut totals: BTreeMap<&str, (i64, i64, i64)> = BTreeMap::new();
    for (wallet, balance) in &books.balances {
        let paid_in = books.deposits.get(wallet).copied().unwrap_or(0);
        let taken = by_wallet.get(wallet).copied().unwrap_or(0);
        let (who, currency) = wallet;
        if balance + taken != paid_in {
            report.find(
                "wallet money is kept",
                format!("{who} {currency}: paid in {paid_in}, taken {taken}, balance {balance}"),
            );
        }
        if *balance < 0 {
            report.find(
                "no wallet is negative",
                format!("{who} {currency}: {balance}"),
            );
        }
        let total = totals.entry(currency).or_default();
        *total = (total.0 + paid_in, total.1 + taken, total.2 + balance);
    }
    for (currency, (paid_in, taken, balance)) in totals {
        report.fact(format!(
            "wallets, {currency}: {paid_in} paid in = {balance} there + {taken} taken (minor units)"
        ));
    }
}

/// Checks that the card processor's captures less its refunds are the cost of confirmed orders.
fn cards(books: &Books, report: &mut Report) {
    let mut kept: BTreeMap<&str, i64> = BTreeMap::new();
    let mut captured: BTreeMap<&str, i64> = BTreeMap::new();
    for (id, entries) in &books.ledger {
        let of = |kind: &str| {
            entries
                .iter()
                .filter(|entry| entry.kind == kind)
                .collect::<Vec<_>>()
        };
        let (captures, refunds) = (of("capture"), of("refund"));
        if captures.len() > 1 || refunds.len() > captures.len() {
            report.find(
                "a card is charged once and refunded once",
                format!(
                    "{id}: {} captures, {} refunds",
                    captures.len(),
                    refunds.len()
                ),
            );
        }
        for entry in entries {
            let sign = if entry.kind == "capture" { 1 } else { -1 };
            *kept.entry(&entry.currency).or_default() += sign * entry.amount_minor;
            if entry.kind == "capture" {
                *captured.entry(&entry.currency).or_default() += entry.amount_minor;
            }
        }
    }
    // All payments, also those by wallet: a charge for a payment by wallet, or for a tombstone, is a finding here. A
    // charge without any payment is a finding above.
    for (id, payment) in &books.payments {
        let entries = books.ledger.get(id).map(Vec::as_slice).unwrap_or_default();
        let kept: i64 = entries
            .iter()
            .map(|entry| {
                if entry.kind == "capture" {
                    entry.amount_minor
                } else {
                    -entry.amount_minor
                }
            })
            .sum();
        let amount = payment.amount_minor.unwrap_or(0);
        let by_card = payment.method.as_deref() == Some("card");
        let agrees = match payment.state.as_str() {
            "captured" if by_card => kept == amount,
            // The operator who wrote a payment off has checked it with the card processor, which may or may not keep
            // the money.
            "settled" if by_card => kept == amount || kept == 0,
            _ => kept == 0,
        };
        if !agrees {
            report.find(
                "card money agrees with the card processor's ledger",
                format!(
                    "{id}: payment {}, of {amount}, and the card processor keeps {kept}",
                    payment.state
                ),
            );
        }
    }
    let confirmed = taken(books, "card", currency);
    for (currency, kept) in &kept {
        let captured = captured.get(currency).copied().unwrap_or(0);
        let ours = confirmed.get(*currency).copied().unwrap_or(0);
        report.fact(format!(
            "cards, {currency}: {captured} captured - {} refunded = {kept} kept; our books say {ours}",
            captured - kept
        ));
    }
}

/// Checks that units only move between shelves: none appears or disappears.
fn stock(books: &Books, report: &mut Report) {
    let mut by_state: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for reservation in books.reservations.values() {
        for line in reservation.lines.iter().flat_map(|lines| lines.iter()) {
            let units = i64::from(line.quantity.get());
            *by_state
                .entry((reservation.state.as_str(), line.sku.as_str()))
                .or_default() += units;
        }
    }
    let (mut sold, mut stocked) = (0, 0);
    for (sku, stock) in &books.stock {
        let held = |state: &str| by_state.get(&(state, sku.as_str())).copied().unwrap_or(0);
        let delivered = books.deliveries.get(sku).copied().unwrap_or(0);
        let all = stock.available + stock.reserved + stock.sold + stock.written_off;
        let should = (
            held("reserved"),
            held("sold"),
            held("settled"),
            delivered,
            delivered,
        );
        let is = (
            stock.reserved,
            stock.sold,
            stock.written_off,
            stock.stocked,
            all,
        );
        if should != is || stock.available < 0 {
            report.find(
                "stock is exact",
                format!("{sku}: (reserved, sold, written off, stocked, all) should be {should:?} and are {is:?}"),
            );
        }
        sold += stock.sold;
        stocked += stock.stocked;
    }
    report.fact(format!(
        "stock: {} products, {stocked} units delivered, {sold} of them sold",
        books.stock.len()
    ));
}

fn parked(books: &Books, report: &mut Report) {
    if books.resolved > 0 {
        report.fact(format!(
            "{} parked messages were requeued or dropped by operators",
            books.resolved
        ));
    }
    for settled in books.settled_money.keys() {
        report.fact(format!("order {settled} was settled by an operator"));
    }
    for parked in &books.parked {
        report.find(
            "nothing is parked",
            format!(
                "{}, {} about {}: {}, {}",
                parked.queue,
                parked.kind.as_deref().unwrap_or("unreadable"),
                parked.subject.as_deref().unwrap_or("unknown"),
                parked.cause,
                parked.detail
            ),
        );
    }
}
