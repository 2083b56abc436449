//! One connection for everything, made anew when it breaks.
//!
//! `redis::aio::ConnectionManager` is not used: it keeps a connection whose answers do not come, and a network that drops
//! packets without a word is what a lock must get over.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline,
    ProtocolVersion, PushInfo, RedisError, RedisResult, ServerErrorKind, Value,
    aio::{ConnectionLike, MultiplexedConnection, SendError},
};

/// Which connection it is, counted from 1.
pub(super) type Generation = u64;

/// What is done with what a connection tells by itself.
pub(super) type OnNews = dyn Fn(Generation, News) + Send + Sync;

/// What a connection tells by itself.
pub(super) enum News {
    /// Redis said something.
    Said(PushInfo),
    /// It was given up: from here on it says nothing.
    Discarded,
}

/// Whom to connect to, and as whom.
pub(super) fn client(url: &str, password: Option<&str>) -> RedisResult<Client> {
    let info = url.into_connection_info()?;
    let mut settings = info
        .redis_settings()
        .clone()
        // Messages come on the same connection as answers.
        .set_protocol(ProtocolVersion::RESP3)
        // A command less that an ACL would have to allow.
        .set_skip_set_lib_name();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    Client::open(info.set_redis_settings(settings))
}

/// The connection, whichever it is now.
pub(super) struct Wire {
    client: Client,
    timeout: Duration,
    on_news: Arc<OnNews>,
    current: Mutex<Option<(Generation, MultiplexedConnection)>>,
    /// Held while one caller connects for all.
    connecting: tokio::sync::Mutex<Option<RedisError>>,
    /// How many connections were tried.
    attempts: AtomicU64,
    /// Who waits for an answer.
    under_way: AtomicUsize,
}

/// Counts one who waits for an answer, until dropped.
struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn on(wire: &'a Wire) -> Self {
        wire.under_way.fetch_add(1, Ordering::Relaxed);
        Self(&wire.under_way)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wire {
    /// Does not connect yet.
    pub(super) fn new(client: Client, timeout: Duration, on_news: Arc<OnNews>) -> Self {
        Self {
            client,
            timeout,
            on_news,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(None),
            attempts: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
        }
    }

    /// The connection, if there is one.
    pub(super) fn current(&self) -> Option<(Generation, MultiplexedConnection)> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The connection; connects if there is none. Who comes while another connects gets what that one gets, so that a Redis
    /// that is away is asked once at a time, however many wait for it.
    pub(super) async fn connection(&self) -> RedisResult<(Generation, MultiplexedConnection)> {
        match self.current() {
            Some(current) => Ok(current),
            // What it takes to connect is large, and would be carried about by every request.
            None => Box::pin(self.connect_for_all()).await,
        }
    }

    async fn connect_for_all(&self) -> RedisResult<(Generation, MultiplexedConnection)> {
        let seen = self.attempts.load(Ordering::Acquire);
        let mut failed = self.connecting.lock().await;
        if let Some(current) = self.current() {
            return Ok(current);
        }
        if let (Some(error), true) = (&*failed, seen != self.attempts.load(Ordering::Acquire)) {
            return Err(error.clone());
        }
        let generation = self.attempts.load(Ordering::Acquire) + 1;
        let connected = self.connect(generation).await;
        self.attempts.store(generation, Ordering::Release);
        match connected {
            Ok(connection) => {
                *failed = None;
                let current = (generation, connection);
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(current.clone());
                Ok(current)
            }
            Err(error) => {
                *failed = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn connect(&self, generation: Generation) -> RedisResult<MultiplexedConnection> {
        let on_news = Arc::clone(&self.on_news);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            // As many as can wait without waiting for each other's place.
            .set_pipeline_buffer_size(1024)
            .set_push_sender(move |push| -> Result<(), SendError> {
                on_news(generation, News::Said(push));
                Ok(())
            });
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Forgets a connection. The next caller makes a new one.
    ///
    /// Who heard from Redis by it is told.
    pub(super) fn discard(&self, generation: Generation) {
        let discarded = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|(current, _)| *current == generation);
        if discarded.is_some() {
            (self.on_news)(generation, News::Discarded);
        }
    }

    /// Sends a command, once, and waits for its answer, for as long as the timeout. After an error the outcome is unknown.
    ///
    /// The command is made for the connection that it is sent on, which is answered with its answer. Cancel safe, but what was
    /// sent is sent.
    pub(super) async fn send<T: FromRedisValue>(
        &self,
        command: impl FnOnce(Generation) -> Cmd,
    ) -> RedisResult<(T, Generation)> {
        let _under_way = UnderWay::on(self);
        let (generation, mut connection) = self.connection().await?;
        let answer = command(generation).query_async(&mut connection).await;
        self.looked_at(answer, generation)
    }

    /// The same for several commands that are sent together, on a connection that is there already and on which nobody else waits
    /// for an answer; none: there is no such. What Redis refuses is an answer, too.
    pub(super) async fn send_all(
        &self,
        commands: impl FnOnce(Generation) -> Option<Pipeline>,
    ) -> RedisResult<Option<(Vec<Value>, Generation)>> {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return Ok(None);
        }
        let _under_way = UnderWay::on(self);
        let Some((generation, mut connection)) = self.current() else {
            return Ok(None);
        };
        let Some(commands) = commands(generation) else {
            return Ok(None);
        };
        let answers = connection.req_packed_commands(&commands, 0, commands.len());
        self.looked_at(answers.await, generation).map(Some)
    }

    fn looked_at<T>(
        &self,
        answer: RedisResult<T>,
        generation: Generation,
    ) -> RedisResult<(T, Generation)> {
        if let Err(error) = &answer
            && is_broken(error)
        {
            self.discard(generation);
        }
        Ok((answer?, generation))
    }
}

/// Whether the connection is of no more use: it is gone, or says nothing, or leads to a server that is a replica by now.
fn is_broken(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::Server(ServerErrorKind::ReadOnly)
    )
}
