//! The use cases, each on the caller's transaction.

use std::collections::{BTreeMap, HashSet};

use chassis::trace::OrderFacts;
use contracts::value::OrderId;
use holdfast::{failpoint, telemetry};
use sqlx::PgConnection;
use tracing::Span;
use uuid::Uuid;

use crate::{
    domain::{News, is_news},
    error::Error,
    store::{self, NewMail},
    template::Templates,
};

/// Takes in a batch of news: each customer is told what is news to them, once.
pub(crate) async fn tell(
    conn: &mut PgConnection,
    templates: &Templates,
    batch: &[(&News, &Span)],
) -> Result<(), Error> {
    let mut ids: Vec<OrderId> = batch.iter().map(|(news, _)| news.order_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut told = store::lock_told(conn, &ids).await?;
    let known: HashSet<OrderId> = told.keys().copied().collect();

    let mut changed = BTreeMap::new();
    let mut mails = Vec::new();
    for (news, span) in batch {
        OrderFacts::of(news.order_id)
            .amount(news.amount)
            .describe(span);
        if !is_news(told.get(&news.order_id).copied(), news.order_version) {
            continue;
        }
        told.insert(news.order_id, news.order_version);
        changed.insert(news.order_id, news.order_version);
        let text = templates.render(news)?;
        mails.push(NewMail {
            id: Uuid::now_v7(),
            order_id: news.order_id,
            kind: news.what.kind(),
            recipient: news.customer.email.clone(),
            subject: text.subject,
            body: text.body,
            traceparent: span.in_scope(telemetry::traceparent),
        });
    }

    let (again, first): (Vec<_>, Vec<_>) =
        changed.into_iter().partition(|(id, _)| known.contains(id));
    if store::tell_first(conn, &first).await? < first.len() {
        return Err(Error::Raced);
    }
    store::tell_again(conn, &again).await?;
    failpoint!("notification.mid_batch");
    store::queue(conn, &mails).await?;
    Ok(())
}
