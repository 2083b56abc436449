//! The circuit breaker before the mail server.

use contracts::value::OrderId;
use reqwest::Method;
use serde_json::Value;
use testkit::{answer, eventually};

use crate::helpers::{Notification, confirmed, spawn_with};

impl Notification {
    async fn breaker(&self) -> Value {
        let all = self.app.as_operator(Method::GET, "/operator/dependencies");
        let all = answer(all).await.expect(200);
        let mut all = all.as_array().expect("a list").iter();
        let smtp = all.find(|dependency| dependency["name"] == "smtp");
        smtp.expect("the mail server")["breaker"].clone()
    }
}

/// The breaker opens, so an unavailable mail server is left alone. When it is back, every mail is sent, once.
#[tokio::test]
async fn open_breaker_spares_the_mail_server_and_loses_no_mail() {
    let notification = spawn_with(&["--mail-breaker-open-ms=300"], None).await;
    notification.line.cut();
    let orders: Vec<OrderId> = (0..30).map(|_| OrderId::new()).collect();
    for order in &orders {
        notification.probe.publish(&confirmed(*order)).await;
    }
    eventually("the breaker opens", || async {
        let breaker = notification.breaker().await;
        if breaker["state"] == "open" {
            Ok(())
        } else {
            Err(breaker)
        }
    })
    .await;
    // Thirty mails wait. Five failures opened the breaker; those that were in flight then are counted as well.
    let failed = notification.breaker().await["failed"].as_u64();
    assert!(failed < Some(20), "{failed:?} attempts");

    notification.line.restore();
    for order in &orders {
        notification
            .wait_for(*order, "order.confirmed", "sent")
            .await;
        assert_eq!(notification.delivered(*order).len(), 1);
    }
    assert_eq!(notification.breaker().await["state"], "closed");
    notification.stop().await;
}
