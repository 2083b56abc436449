//! The messages that the notification service publishes.

use serde::{Deserialize, Serialize};

use crate::{message::messages, value::OrderId};

/// Answer to `orchestrator.send_notification`: the mail is stored and will be sent, whatever happens to this service.
/// The service records whether the mail arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NotificationQueued {
    pub order_id: OrderId,
    pub order_version: u32,
}

messages! {
    NotificationQueued = "notification.queued.v1",
}
