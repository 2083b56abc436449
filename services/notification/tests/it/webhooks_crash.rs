//! The process dies between sending a webhook and recording it; and old webhooks are pruned.

use std::{
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
};

use clap::Parser;
use contracts::value::OrderId;
use notification::{App, Config};
use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;
use testkit::{
    Database, Probe, SmtpSink, TestApp, Vhost, answer, arguments, broker_arguments, client,
    eventually, token,
};

use crate::{
    helpers::{DEVELOPMENT_KEYS, confirmed},
    receiver::Receiver,
    webhooks::{LOCAL, text},
};

/// The service as a process of its own, which is killed when this is dropped.
struct Process(Child);

impl Process {
    /// Starts a service that aborts once it has sent a webhook. Returns it with its URL.
    fn start(arguments: &[String]) -> (Self, String) {
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            free.local_addr().expect("a bound port").port()
        };
        let child = Command::new(env!("CARGO_BIN_EXE_notification"))
            .args(
                arguments
                    .iter()
                    .filter(|argument| !argument.starts_with("--http-listen")),
            )
            .arg(format!("--http-listen=127.0.0.1:{port}"))
            .env("FAILPOINTS", "notification.after_webhook=return(abort)")
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary is there");
        (Self(child), format!("http://127.0.0.1:{port}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Adds webhooks that have been over for about a month, with attempts and resends, and a deleted endpoint.
async fn add_old_webhooks(pool: &PgPool) {
    for (state, age) in [("delivered", 721), ("delivered", 719), ("held", 721)] {
        // Attempts and resends must not keep a webhook from being pruned.
        sqlx::query(
            "with over as (
                 insert into webhook (id, endpoint_id, message_id, order_id, kind, body, state, updated_at)
                 select gen_random_uuid(), id, gen_random_uuid(), gen_random_uuid(), 'order.confirmed', '{}', $1,
                        now() - make_interval(hours => $2)
                 from webhook_endpoint
                 returning id
             ), attempt as (
                 insert into webhook_attempt (webhook_id, attempt, outcome, reply, took_ms)
                 select id, 1, 'delivered', 'answered 204', 7 from over
             )
             insert into webhook_resend (webhook_id, asked_by) select id, 'alice' from over",
        )
        .bind(state)
        .bind(age)
        .execute(pool)
        .await
        .expect("valid SQL");
    }
    sqlx::query("insert into webhook_endpoint (id, url, state, secret) values (gen_random_uuid(), '', 'deleted', '')")
        .execute(pool)
        .await
        .expect("valid SQL");
}

#[tokio::test]
async fn unrecorded_webhook_is_resent_under_the_same_id() {
    let (database, vhost) =
        tokio::join!(Database::create("notification"), Vhost::of("notification"));
    let probe = Probe::attach(&vhost).await;
    let (sink, receiver) = (SmtpSink::start().await, Receiver::start().await);
    let mut all = arguments("notification", database.url());
    all.extend(broker_arguments(&vhost, "notification"));
    all.extend(LOCAL.map(str::to_owned));
    all.extend([
        format!("--smtp-url=smtp://{}", sink.address()),
        format!("--webhook-keys-file={DEVELOPMENT_KEYS}"),
        "--webhook-poll-ms=20".to_owned(),
    ]);

    let (mut process, url) = Process::start(&all[1..]);
    let http = client();
    eventually("the process is ready", || async {
        let ready = http.get(format!("{url}/health/ready")).send().await;
        ready
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| error.to_string())
    })
    .await;
    let request = http
        .post(format!("{url}/webhooks"))
        .bearer_auth(token("olga", chassis::identity::Role::Operator))
        .json(&json!({ "url": receiver.url("/hook") }));
    let endpoint = answer(request).await.expect(201);

    let order = OrderId::new();
    probe.publish(&confirmed(order)).await;
    receiver.wait_for("/hook", 1).await;
    let status = eventually("it has died", || {
        let status = process.0.try_wait().expect("it is our child");
        std::future::ready(status.ok_or("it lives"))
    })
    .await;
    assert_eq!(status.signal(), Some(6), "SIGABRT");
    let pool = database.pool();
    let left: (String, i32) = sqlx::query_as("select state, attempts from webhook")
        .fetch_one(&pool)
        .await
        .expect("one webhook");
    assert_eq!(left, ("queued".to_owned(), 0), "nothing was recorded");

    // The lease would end in ten seconds; end it now. Then add webhooks that have been over for a month.
    sqlx::query("update webhook set due_at = now()")
        .execute(&pool)
        .await
        .expect("valid SQL");
    add_old_webhooks(&pool).await;

    let app = App::build(Config::parse_from(all)).expect("it is put together");
    let address = app.address().expect("it is bound");
    let app = TestApp::start(address, database, |shutdown| app.run(shutdown)).await;
    let hooks = receiver.wait_for("/hook", 2).await;
    assert_eq!(hooks[0].id(), hooks[1].id());
    assert_eq!(hooks[0].body, hooks[1].body);
    assert!(
        hooks
            .iter()
            .all(|hook| hook.is_signed_by(text(&endpoint, "secret")))
    );
    eventually("it is recorded, and old webhooks are pruned", || async {
        let path = format!("/webhooks/{}", text(&endpoint, "id"));
        let seen = answer(app.as_operator(Method::GET, &path))
            .await
            .expect(200);
        let states: Vec<&str> = seen["webhooks"]
            .as_array()
            .map(|hooks| hooks.iter().map(|hook| text(hook, "state")).collect())
            .unwrap_or_default();
        let endpoints: i64 = sqlx::query_scalar("select count(*) from webhook_endpoint")
            .fetch_one(&pool)
            .await
            .map_err(|error| error.to_string())?;
        if states == ["delivered", "delivered"] && endpoints == 1 {
            Ok(())
        } else {
            Err(format!("{endpoints} endpoints, {seen:#}"))
        }
    })
    .await;
    assert_eq!(receiver.seen("/hook").len(), 2);
    app.stop().await;
    vhost.delete().await;
}
