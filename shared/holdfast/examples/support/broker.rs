//! The queues that `messaging` expects, for one example alone, deleted afterwards. In a project they are a file that is
//! loaded into the broker (deploy/rabbitmq/definitions.json), and no service may declare any.

use std::time::Duration;

use anyhow::Context;
use holdfast::messaging::retry_exchange;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use uuid::Uuid;

/// A queue, its delays and its dead-letter queue.
pub(crate) struct Queues {
    pub(crate) url: String,
    /// The queue to consume. The routing key of the same name leads to it.
    pub(crate) queue: String,
    /// The exchange that the delay queues are bound to.
    exchange: String,
    connection: Connection,
    channel: Channel,
    names: Vec<String>,
    /// Set if the exchange did not exist before.
    exchange_is_ours: bool,
}

impl Queues {
    /// Declares the queues on the broker of `AMQP_URL`, with a delay queue for each of `delays`.
    pub(crate) async fn create(example: &str, delays: &[Duration]) -> anyhow::Result<Self> {
        let (url, connection) = connect(example).await?;
        let queue = format!("holdfast.example.{}", Uuid::now_v7().simple());
        let exchange = retry_exchange(&queue);
        let exchange_is_ours = !exists(&connection, &exchange).await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                exchange.as_str().into(),
                ExchangeKind::Direct,
                durable,
                FieldTable::default(),
            )
            .await?;
        let mut queues = Self {
            url,
            queue,
            exchange,
            connection,
            channel,
            names: Vec::new(),
            exchange_is_ours,
        };
        queues.declare_all(delays).await?;
        Ok(queues)
    }

    /// Declares the queue to consume, its delays and its dead-letter queue.
    async fn declare_all(&mut self, delays: &[Duration]) -> anyhow::Result<()> {
        let queue = self.queue.clone();
        // The broker itself dead-letters a message that kills its consumer again and again. The limit is high, so that
        // it affects no other.
        let work = [
            ("x-delivery-limit", AMQPValue::LongInt(100)),
            ("x-dead-letter-exchange", text(&self.exchange)),
            ("x-dead-letter-routing-key", text(&format!("{queue}.dead"))),
        ];
        self.declare(&queue, &work).await?;
        for (place, delay) in (1..).zip(delays) {
            // Without a consumer: a message that was in it for `delay` goes back to the queue that it came from.
            let wait = [
                (
                    "x-message-ttl",
                    AMQPValue::LongInt(i32::try_from(delay.as_millis())?),
                ),
                ("x-dead-letter-exchange", text("")),
                ("x-dead-letter-routing-key", text(&queue)),
            ];
            self.declare(&format!("{queue}.retry.{place}"), &wait)
                .await?;
        }
        // Without this limit RabbitMQ 4 drops a message after 20 deliveries.
        let dead = [("x-delivery-limit", AMQPValue::LongInt(1_000_000_000))];
        self.declare(&format!("{queue}.dead"), &dead).await
    }

    /// Declares a durable, replicated queue, bound to the delays' exchange by its name.
    async fn declare(&mut self, name: &str, more: &[(&str, AMQPValue)]) -> anyhow::Result<()> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text("quorum"));
        for (argument, value) in more {
            arguments.insert(ShortString::from(*argument), value.clone());
        }
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        self.names.push(name.to_owned());
        self.channel
            .queue_declare(name.into(), durable, arguments)
            .await?;
        let bind = QueueBindOptions::default();
        self.channel
            .queue_bind(
                name.into(),
                self.exchange.as_str().into(),
                name.into(),
                bind,
                FieldTable::default(),
            )
            .await?;
        Ok(())
    }

    /// Deletes the queues.
    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        for name in &self.names {
            self.channel
                .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
                .await?;
        }
        if self.exchange_is_ours {
            // Another example may have bound its queues meanwhile: then the exchange stays.
            let unused = ExchangeDeleteOptions {
                if_unused: true,
                ..ExchangeDeleteOptions::default()
            };
            let _ = self
                .channel
                .exchange_delete(self.exchange.as_str().into(), unused)
                .await;
        }
        self.connection.close(200, "bye".into()).await?;
        Ok(())
    }
}

/// Connects to the broker of `AMQP_URL`, or says how to get one.
async fn connect(example: &str) -> anyhow::Result<(String, Connection)> {
    let url = std::env::var("AMQP_URL").ok().with_context(|| {
        format!(
            "this example needs a RabbitMQ. Either\n\n    \
             cargo xtask example {example}\n\n\
             which starts private servers, or set AMQP_URL to one on which you may declare queues:\n\n    \
             docker run --rm --detach --publish 127.0.0.1:5672:5672 rabbitmq:4\n    \
             export AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f\n"
        )
    })?;
    let connection = Connection::connect(&url, ConnectionProperties::default())
        .await
        .context("no connection to the RabbitMQ of AMQP_URL")?;
    Ok((url, connection))
}

/// Returns whether the exchange exists. On a channel of its own, because the broker closes it if not.
async fn exists(connection: &Connection, exchange: &str) -> anyhow::Result<bool> {
    let channel = connection.create_channel().await?;
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let there = channel.exchange_declare(
        exchange.into(),
        ExchangeKind::Direct,
        passive,
        FieldTable::default(),
    );
    Ok(there.await.is_ok())
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}
