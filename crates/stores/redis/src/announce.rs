//! Announcements of void copies: a connection to each server, on which they come in.
//!
//! A script that forgets or resolves a record publishes its identifier on one channel. In a Cluster
//! that reaches every node by itself; all masters are subscribed to all the same, so that one which
//! loses touch with the others is noticed by its own silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use onlyonce_core::{
    InvalidationHub, InvalidationListener, Invalidations, Operation, Subscription,
};
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::RedisStore;
use crate::node::Node;
use crate::store::Inner;

/// Between two signs of life of a connection.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Between two tries to connect, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Who listens, and whether somebody sees to the connections.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    hub: InvalidationHub,
    at_work: AtomicBool,
}

/// Copies are trusted for 5 s and one [`timeout`](crate::Builder::timeout) from the last sign of
/// life of every master. Needs a tokio runtime.
impl Invalidations for RedisStore {
    fn subscribe(&self, listener: Arc<dyn InvalidationListener>) -> Subscription {
        let announcements = &self.0.announcements;
        let subscription = announcements.hub.subscribe(listener);
        if !announcements.at_work.swap(true, Ordering::SeqCst) {
            tokio::spawn(work(Arc::clone(&self.0)));
        }
        subscription
    }
}

/// Keeps connections as long as anybody listens.
async fn work(inner: Arc<Inner>) {
    let announcements = &inner.announcements;
    let mut pause = PAUSES.0;
    loop {
        let mut connected = false;
        if let Err(error) = listen(&inner, &mut connected).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "announcements lost"
            );
        }
        announcements.hub.lost();
        if announcements.hub.is_empty() {
            announcements.at_work.store(false, Ordering::SeqCst);
            // Somebody may have come in between, and seen that there is somebody at work.
            let came = !announcements.hub.is_empty();
            if !came || announcements.at_work.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        pause = if connected {
            PAUSES.0
        } else {
            (pause * 2).min(PAUSES.1)
        };
        tokio::time::sleep(pause).await;
    }
}

/// Until a connection is lost, other servers are the masters, or nobody listens any more.
async fn listen(inner: &Inner, connected: &mut bool) -> Result<(), RedisError> {
    let masters = masters(inner).await?;
    let session = Arc::new(Session::default());
    let lines = masters.iter().map(|node| subscribe(inner, node, &session));
    let mut lines = try_join_all(lines).await?;
    loop {
        let sent = Instant::now();
        try_join_all(lines.iter_mut().map(|line| beat(inner, line))).await?;
        // What was published before that has come in: answers and announcements keep their order.
        if session.lost.load(Ordering::SeqCst) {
            return Err(broken("the connection broke"));
        }
        let trust = (HEARTBEAT + inner.caller.limit).saturating_sub(sent.elapsed());
        inner.announcements.hub.connected(trust);
        *connected = true;
        inner.caller.routes.look_again();
        let until_then = HEARTBEAT.saturating_sub(sent.elapsed());
        let _ = timeout(until_then, session.wake.notified()).await;
        if session.lost.load(Ordering::SeqCst) {
            return Err(broken("the connection broke"));
        }
        if inner.announcements.hub.is_empty() {
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
    session: &Arc<Session>,
) -> Result<MultiplexedConnection, RedisError> {
    let (hub, session) = (inner.announcements.hub.clone(), Arc::clone(session));
    let channel = inner.caller.places.announcements();
    let on_push = {
        let channel = channel.clone();
        move |push: PushInfo| match push.kind {
            PushKind::Message => {
                if let [Value::BulkString(on), Value::BulkString(id)] = push.data.as_slice()
                    && on == channel.as_bytes()
                    && let Some(id) = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok())
                {
                    hub.void(&id);
                }
            }
            PushKind::Disconnection | PushKind::Unsubscribe => {
                session.lost.store(true, Ordering::SeqCst);
                // Not for the task that sees to it to say: it may be long in coming.
                hub.lost();
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
