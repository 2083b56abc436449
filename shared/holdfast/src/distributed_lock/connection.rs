//! One connection for all requests, replaced when it breaks.
//!
//! `redis::aio::ConnectionManager` is not used: it keeps a connection on which no replies arrive, and a network that
//! silently drops packets is a failure that a lock must survive.

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

/// The number of a connection, from 1.
pub(super) type Generation = u64;

/// A callback for what a connection reports by itself.
pub(super) type OnReport = dyn Fn(Generation, Report) + Send + Sync;

/// A report of a connection that is not the reply to a request.
pub(super) enum Report {
    /// A message that Redis pushed.
    Pushed(PushInfo),
    /// The connection was discarded: no more reports come from it.
    Discarded,
}

/// Returns a client for `url`; `password` replaces the URL's.
pub(super) fn client(url: &str, password: Option<&str>) -> RedisResult<Client> {
    let info = url.into_connection_info()?;
    let mut settings = info
        .redis_settings()
        .clone()
        // Pushed messages arrive on the same connection as replies.
        .set_protocol(ProtocolVersion::RESP3)
        // One command less for an ACL to allow.
        .set_skip_set_lib_name();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    Client::open(info.set_redis_settings(settings))
}

/// The current connection, and the means to make the next one.
pub(super) struct Wire {
    client: Client,
    timeout: Duration,
    on_report: Arc<OnReport>,
    current: Mutex<Option<(Generation, MultiplexedConnection)>>,
    /// Held while one caller connects for all. Its value is the error of the last attempt, if that failed.
    connecting: tokio::sync::Mutex<Option<RedisError>>,
    /// The number of connection attempts so far.
    attempts: AtomicU64,
    /// The number of requests that wait for a reply.
    under_way: AtomicUsize,
}

/// A request that waits for a reply. It is counted until dropped.
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
    /// Stores the settings; the first request connects.
    pub(super) fn new(client: Client, timeout: Duration, on_report: Arc<OnReport>) -> Self {
        Self {
            client,
            timeout,
            on_report,
            current: Mutex::new(None),
            connecting: tokio::sync::Mutex::new(None),
            attempts: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
        }
    }

    /// Returns the connection, if there is one.
    pub(super) fn current(&self) -> Option<(Generation, MultiplexedConnection)> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the connection, and connects first if there is none. Callers that arrive meanwhile share the result, so
    /// that an unavailable Redis sees one attempt at a time however many wait.
    pub(super) async fn connection(&self) -> RedisResult<(Generation, MultiplexedConnection)> {
        match self.current() {
            Some(current) => Ok(current),
            // Boxed: the future that connects is large, and every request's future would contain it.
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
        let on_report = Arc::clone(&self.on_report);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            // Room for every waiting request, so that none waits for a place in the buffer.
            .set_pipeline_buffer_size(1024)
            .set_push_sender(move |push| -> Result<(), SendError> {
                on_report(generation, Report::Pushed(push));
                Ok(())
            });
        self.client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Drops a connection and reports it to `on_report`, so that waiters look again. The next caller connects.
    ///
    /// Does nothing if the current connection is another one.
    pub(super) fn discard(&self, generation: Generation) {
        let discarded = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|(current, _)| *current == generation);
        if discarded.is_some() {
            (self.on_report)(generation, Report::Discarded);
        }
    }

    /// Sends one command, and waits for its reply for at most the timeout. After an error the outcome is unknown.
    ///
    /// `command` gets the number of the connection that it is sent on; the same number is returned with the reply.
    /// Cancel safe, but a command that was sent may take effect.
    pub(super) async fn send<T: FromRedisValue>(
        &self,
        command: impl FnOnce(Generation) -> Cmd,
    ) -> RedisResult<(T, Generation)> {
        let _under_way = UnderWay::on(self);
        let (generation, mut connection) = self.connection().await?;
        let answer = command(generation).query_async(&mut connection).await;
        self.looked_at(answer, generation)
    }

    /// Sends several commands together, if there is a connection and no other request waits on it; otherwise sends
    /// nothing and returns `None`. An error reply to one of them is among the values.
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

/// Returns whether the connection is unusable: broken, silent, or to a server that has become a replica.
fn is_broken(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Io | ErrorKind::Parse | ErrorKind::Server(ServerErrorKind::ReadOnly)
    )
}
