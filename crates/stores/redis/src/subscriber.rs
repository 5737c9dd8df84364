//! Watching records: one connection to a server, on which its announcements come in.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use onlyonce_core::{Changes, Operation, RecordId, StoreError, StoreErrorKind, Watchers};
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{Pipeline, PushInfo, PushKind, RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::dial::Dialler;
use crate::place::Places;
use crate::url::Address;

/// What all subscribers of a store have in common.
#[derive(Clone, Debug)]
pub(crate) struct Subscribing {
    pub(crate) watchers: Watchers,
    pub(crate) places: Places,
    /// By shard, as in a Cluster of version 7.
    pub(crate) sharded: bool,
    pub(crate) limit: Duration,
}

/// Listens to one server.
///
/// A record is subscribed to while anybody watches it. When the connection breaks, everybody who
/// watches is told at once, as an announcement may have been missed: they look at their records
/// and, where they still have to wait, watch again, on a new connection.
pub(crate) struct Subscriber(Arc<Shared>);

struct Shared {
    server: Address,
    dialler: Arc<Dialler>,
    common: Subscribing,
    state: Mutex<State>,
    /// Something is to be done on the connection.
    wake: Notify,
}

#[derive(Default)]
struct State {
    slots: HashMap<RecordId, Slot>,
    /// What the connection is to be told, in order.
    orders: Vec<Order>,
    /// Records that are being unsubscribed from: the server's word on them is no surprise.
    leaving: HashSet<RecordId>,
    next: u64,
    /// Counts the connections, so that a late word of an old one is known for what it is.
    connection: u64,
    lost: bool,
    at_work: bool,
}

/// A record that somebody watches.
struct Slot {
    number: u64,
    interests: usize,
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Debug)]
enum Progress {
    Pending,
    Ready,
    Failed(Option<RedisError>),
}

enum Order {
    Subscribe(RecordId, u64),
    Unsubscribe(RecordId),
}

/// An idle connection is tried out this often.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Orders that go out in one write.
const BATCH: usize = 512;

impl Subscriber {
    pub(crate) fn new(server: Address, dialler: Arc<Dialler>, common: Subscribing) -> Self {
        Self(Arc::new(Shared {
            server,
            dialler,
            common,
            state: Mutex::default(),
            wake: Notify::new(),
        }))
    }

    /// Watches a record; returns when the server has confirmed it.
    pub(crate) async fn watch(&self, id: &RecordId) -> Result<Changes, StoreError> {
        let (interest, mut progress) = self.0.join(id);
        let limit = self.0.common.limit;
        let settled = progress.wait_for(|progress| !matches!(progress, Progress::Pending));
        let settled = match timeout(limit, settled).await {
            Ok(Ok(progress)) => progress.clone(),
            Ok(Err(_)) => Progress::Failed(None),
            Err(_) => {
                let message = format!("Redis at {} confirmed no watch in time", self.0.server);
                let kind = StoreErrorKind::Timeout;
                return Err(StoreError::new(Operation::Watch, kind, message));
            }
        };
        match settled {
            Progress::Ready => {
                let changes = self.0.common.watchers.watch(id);
                // Between the confirmation and this line the connection may have broken, and
                // everybody else been told.
                if !interest.holds() {
                    self.0.common.watchers.notify(id);
                }
                Ok(Changes::new(async move {
                    changes.await;
                    drop(interest);
                }))
            }
            Progress::Pending | Progress::Failed(_) => {
                let message = format!("Redis at {} takes no watch just now", self.0.server);
                let error = StoreError::new(Operation::Watch, StoreErrorKind::Unavailable, message);
                Err(match settled {
                    Progress::Failed(Some(source)) => error.with_source(source),
                    _ => error,
                })
            }
        }
    }
}

impl Shared {
    fn join(self: &Arc<Self>, id: &RecordId) -> (Interest, watch::Receiver<Progress>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let slot = state.slots.entry(*id).or_insert_with(|| {
            let number = state.next;
            state.next += 1;
            state.orders.push(Order::Subscribe(*id, number));
            Slot {
                number,
                interests: 0,
                progress: watch::Sender::new(Progress::Pending),
            }
        });
        slot.interests += 1;
        let progress = slot.progress.subscribe();
        let interest = Interest {
            shared: Arc::clone(self),
            id: *id,
            number: slot.number,
        };
        if !state.at_work {
            state.at_work = true;
            tokio::spawn(Arc::clone(self).work());
        }
        drop(guard);
        self.wake.notify_one();
        (interest, progress)
    }

    /// Carries out the orders for as long as anybody watches anything, and a little longer.
    async fn work(self: Arc<Self>) {
        let mut connection = None;
        // Nobody asked for anything for as long as a heartbeat.
        let mut idle = false;
        loop {
            let orders = {
                let mut state = self.lock();
                if state.lost {
                    state.lost = false;
                    connection = None;
                    // What was ordered for the old connection falls with it.
                    let told = state.give_up(None);
                    drop(state);
                    self.tell(&told);
                    continue;
                }
                if state.slots.is_empty()
                    && state.orders.is_empty()
                    && (connection.is_none() || idle)
                {
                    state.at_work = false;
                    state.connection += 1;
                    return;
                }
                let count = state.orders.len().min(BATCH);
                let orders: Vec<Order> = state.orders.drain(..count).collect();
                for order in &orders {
                    if let Order::Unsubscribe(id) = order {
                        state.leaving.insert(*id);
                    }
                }
                orders
            };
            let done = if orders.is_empty() {
                idle = timeout(HEARTBEAT, self.wake.notified()).await.is_err();
                if !idle {
                    continue;
                }
                self.beat(&mut connection).await
            } else {
                // Not counted as idle: the connection outlives its last watch by a heartbeat.
                idle = false;
                self.carry_out(&mut connection, &orders).await
            };
            if let Err(error) = done {
                connection = None;
                let told = self.lock().give_up(Some(&error));
                self.tell(&told);
            }
        }
    }

    async fn beat(&self, connection: &mut Option<MultiplexedConnection>) -> Result<(), RedisError> {
        let Some(connection) = connection else {
            return Ok(());
        };
        let ping = redis::cmd("PING");
        self.in_time(connection.req_packed_command(&ping))
            .await
            .map(drop)
    }

    async fn carry_out(
        self: &Arc<Self>,
        connection: &mut Option<MultiplexedConnection>,
        orders: &[Order],
    ) -> Result<(), RedisError> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.connect().await?),
        };
        let (subscribe, unsubscribe) = if self.common.sharded {
            ("SSUBSCRIBE", "SUNSUBSCRIBE")
        } else {
            ("SUBSCRIBE", "UNSUBSCRIBE")
        };
        // One channel to a command: each has one answer, be it an error.
        let mut pipeline = Pipeline::with_capacity(orders.len());
        for order in orders {
            let (command, id) = match order {
                Order::Subscribe(id, _) => (subscribe, id),
                Order::Unsubscribe(id) => (unsubscribe, id),
            };
            pipeline.cmd(command).arg(self.common.places.key(id));
        }
        let answers = connection.req_packed_commands(&pipeline, 0, orders.len());
        let answers = self.in_time(answers).await?;
        let mut state = self.lock();
        for (order, answer) in orders.iter().zip(answers) {
            match order {
                Order::Unsubscribe(id) => {
                    state.leaving.remove(id);
                }
                Order::Subscribe(id, number) => {
                    let progress = match answer {
                        Value::ServerError(error) => Progress::Failed(Some(error.into())),
                        _ => Progress::Ready,
                    };
                    state.settle(id, *number, progress);
                }
            }
        }
        Ok(())
    }

    async fn connect(self: &Arc<Self>) -> Result<MultiplexedConnection, RedisError> {
        let number = {
            let mut state = self.lock();
            state.connection += 1;
            state.connection
        };
        // The connection must not keep alive what keeps the connection.
        let shared = Arc::downgrade(self);
        let on_push = move |push: PushInfo| {
            if let Some(shared) = shared.upgrade() {
                shared.heard(number, &push);
            }
        };
        let server = &self.server;
        self.dialler.dial(server, Some(Box::new(on_push))).await
    }

    /// The server said something by itself, on the connection with this number.
    fn heard(&self, connection: u64, push: &PushInfo) {
        let id = match push.data.first() {
            Some(Value::BulkString(channel)) => self.common.places.id(channel),
            _ => None,
        };
        match (&push.kind, id) {
            (PushKind::Message | PushKind::SMessage, Some(id)) => self.common.watchers.notify(&id),
            (PushKind::Unsubscribe | PushKind::SUnsubscribe, Some(id)) => {
                // Unasked for: the slot went elsewhere. On this connection answers may be out of
                // step from now on, and announcements will be missed.
                let mut state = self.lock();
                if state.connection == connection && !state.leaving.contains(&id) {
                    state.lost = true;
                    drop(state);
                    self.wake.notify_one();
                }
            }
            (PushKind::Disconnection, _) => {
                let mut state = self.lock();
                if state.connection == connection {
                    state.lost = true;
                    drop(state);
                    self.wake.notify_one();
                }
            }
            _ => {}
        }
    }

    fn tell(&self, ids: &[RecordId]) {
        for id in ids {
            self.common.watchers.notify(id);
        }
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        timeout(self.common.limit, answer)
            .await
            .unwrap_or_else(|elapsed| {
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed).into())
            })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self, id: &RecordId, number: u64, progress: Progress) {
        let Some(slot) = self.slots.get(id).filter(|slot| slot.number == number) else {
            return;
        };
        let failed = matches!(progress, Progress::Failed(_));
        slot.progress.send_replace(progress);
        if failed {
            self.slots.remove(id);
        }
    }

    /// Nothing is subscribed to any more. Gives the records whose watchers are to be told.
    fn give_up(&mut self, error: Option<&RedisError>) -> Vec<RecordId> {
        self.connection += 1;
        self.orders.clear();
        self.leaving.clear();
        let slots = std::mem::take(&mut self.slots);
        slots
            .into_iter()
            .map(|(id, slot)| {
                slot.progress.send_replace(Progress::Failed(error.cloned()));
                id
            })
            .collect()
    }
}

/// Keeps a record subscribed to.
struct Interest {
    shared: Arc<Shared>,
    id: RecordId,
    number: u64,
}

impl Interest {
    /// Whether the subscription has been there all the time.
    fn holds(&self) -> bool {
        let state = self.shared.lock();
        let slot = state.slots.get(&self.id);
        slot.is_some_and(|slot| slot.number == self.number)
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let Some(slot) = state
            .slots
            .get_mut(&self.id)
            .filter(|slot| slot.number == self.number)
        else {
            return;
        };
        slot.interests -= 1;
        if slot.interests > 0 {
            return;
        }
        state.slots.remove(&self.id);
        state.orders.push(Order::Unsubscribe(self.id));
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscriber({})", self.0.server)
    }
}
