//! What the notification service publishes.

use serde::{Deserialize, Serialize};

use crate::{message::messages, value::OrderId};

/// Answer to `orchestrator.send_notification`: the customer will be told, whatever happens to this service. Whether the mail
/// arrives is recorded there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NotificationQueued {
    pub order_id: OrderId,
    pub order_version: u32,
}

messages! {
    NotificationQueued = "notification.queued.v1",
}
