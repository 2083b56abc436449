//! The check that keeps an overtaken holder of an account's lock from writing.

use contracts::value::CustomerId;
use holdfast::distributed_lock::{Fence, Lock};
use sqlx::PgConnection;

/// Lets the holder of this lock pass if no newer one was seen; otherwise returns the newest fence. Must be the first
/// statement of each transaction that works under the lock: other holders wait at the row until the transaction ends.
pub(crate) async fn pass(
    conn: &mut PgConnection,
    customer: &CustomerId,
    lock: &Lock,
) -> sqlx::Result<Result<(), Fence>> {
    let passed = sqlx::query_scalar!(
        "insert into account_fence as newest (customer_id, fence, holder) values ($1, $2, $3)
         on conflict (customer_id) do update set fence = excluded.fence, holder = excluded.holder
         where newest.fence < excluded.fence
            or (newest.fence = excluded.fence and newest.holder = excluded.holder)
         returning fence",
        customer.as_str(),
        lock.fence().get(),
        lock.token(),
    )
    .fetch_optional(&mut *conn)
    .await?;
    if passed.is_some() {
        return Ok(Ok(()));
    }
    let newest = sqlx::query_scalar!(
        "select fence from account_fence where customer_id = $1",
        customer.as_str()
    )
    .fetch_one(conn)
    .await?;
    // Every stored fence came from a lock, so it is valid.
    Ok(Err(Fence::new(newest).unwrap_or_default()))
}
