//! Listening to one channel, on every master: what is published in a Cluster reaches all of them,
//! and one that loses touch with the others is noticed by its own silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use onlyonce_core::Operation;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::node::Node;
use crate::store::Inner;

/// Between two signs of life of a connection.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Between two tries to connect, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Who is told.
pub(crate) trait Ear: Send + Sync + 'static {
    /// All that is published from now on is heard, for as long as this at least.
    fn connected(&self, trust: Duration);

    /// Something may have been missed.
    fn lost(&self);

    /// This was published.
    fn message(&self, payload: &[u8]);

    /// Nobody listens any more.
    fn is_closed(&self) -> bool;
}

/// Before the next try.
#[derive(Debug)]
pub(crate) struct Pause(Duration);

impl Pause {
    pub(crate) const fn new() -> Self {
        Self(PAUSES.0)
    }

    pub(crate) async fn wait(&mut self, was_connected: bool) {
        self.0 = if was_connected {
            PAUSES.0
        } else {
            (self.0 * 2).min(PAUSES.1)
        };
        tokio::time::sleep(self.0).await;
    }
}

/// Listens once; whether it came to be connected.
pub(crate) async fn listen_once(inner: &Inner, channel: &str, ear: &Arc<dyn Ear>) -> bool {
    let mut connected = false;
    if let Err(error) = listen(inner, channel, ear, &mut connected).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            channel,
            "announcements lost"
        );
    }
    ear.lost();
    connected
}

/// Until a connection is lost, other servers are the masters, or nobody listens any more.
async fn listen(
    inner: &Inner,
    channel: &str,
    ear: &Arc<dyn Ear>,
    connected: &mut bool,
) -> Result<(), RedisError> {
    let masters = masters(inner).await?;
    let session = Arc::new(Session::default());
    let lines = masters
        .iter()
        .map(|node| subscribe(inner, node, channel, ear, &session));
    let mut lines = try_join_all(lines).await?;
    loop {
        let sent = Instant::now();
        try_join_all(lines.iter_mut().map(|line| beat(inner, line))).await?;
        // What was published before that has come in: answers and announcements keep their order.
        if session.lost.load(Ordering::SeqCst) {
            return Err(broken("the connection broke"));
        }
        let trust = (HEARTBEAT + inner.caller.limit).saturating_sub(sent.elapsed());
        ear.connected(trust);
        *connected = true;
        inner.caller.routes.look_again();
        let until_then = HEARTBEAT.saturating_sub(sent.elapsed());
        let _ = timeout(until_then, session.wake.notified()).await;
        if session.lost.load(Ordering::SeqCst) {
            return Err(broken("the connection broke"));
        }
        if ear.is_closed() {
            return Ok(());
        }
        let now = self::masters(inner).await?;
        let same = |one: &Arc<Node>| masters.iter().any(|two| one.address() == two.address());
        if now.len() != masters.len() || !now.iter().all(same) {
            return Err(broken("other servers are the masters now"));
        }
    }
}

/// What the connections of one time have in common.
#[derive(Debug, Default)]
struct Session {
    lost: AtomicBool,
    wake: Notify,
}

async fn masters(inner: &Inner) -> Result<Vec<Arc<Node>>, RedisError> {
    let masters = inner.caller.routes.masters(Operation::Watch).await;
    masters.map_err(|fault| std::io::Error::other(fault.give_up(Operation::Watch)).into())
}

async fn subscribe(
    inner: &Inner,
    node: &Arc<Node>,
    channel: &str,
    ear: &Arc<dyn Ear>,
    session: &Arc<Session>,
) -> Result<MultiplexedConnection, RedisError> {
    let (ear, session) = (Arc::clone(ear), Arc::clone(session));
    let on_push = {
        let channel = channel.to_owned();
        move |push: PushInfo| match push.kind {
            PushKind::Message => {
                if let [Value::BulkString(on), Value::BulkString(payload)] = push.data.as_slice()
                    && on == channel.as_bytes()
                {
                    ear.message(payload);
                }
            }
            PushKind::Disconnection | PushKind::Unsubscribe => {
                session.lost.store(true, Ordering::SeqCst);
                // Not for the task that sees to it to say: it may be long in coming.
                ear.lost();
                session.wake.notify_one();
            }
            _ => {}
        }
    };
    let line = node.listen(Box::new(on_push)).await;
    let mut line = line.inspect_err(|_| inner.caller.routes.doubt(node))?;
    let mut command = redis::cmd("SUBSCRIBE");
    command.arg(channel);
    in_time(inner, line.req_packed_command(&command)).await?;
    Ok(line)
}

/// A sign of life, from a server that still is a master.
async fn beat(inner: &Inner, line: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let role = redis::cmd("ROLE");
    match in_time(inner, line.req_packed_command(&role)).await? {
        Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master") => {
            Ok(())
        }
        _ => Err(broken("it is no master any more")),
    }
}

async fn in_time(
    inner: &Inner,
    answer: impl Future<Output = Result<Value, RedisError>>,
) -> Result<Value, RedisError> {
    let answer = timeout(inner.caller.limit, answer).await;
    match answer.unwrap_or_else(|_| Err(broken("no answer in time")))? {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    }
}

fn broken(why: &'static str) -> RedisError {
    std::io::Error::other(why).into()
}
