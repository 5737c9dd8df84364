//! One server: its connections, made when they are needed and made anew when they break.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::dial::{Dialler, OnPush};
use crate::subscriber::{Subscriber, Subscribing};
use crate::url::Address;

/// A server and the connections to it.
pub(crate) struct Node {
    address: Address,
    dialler: Arc<Dialler>,
    /// Requests take turns: one that waits for replicas keeps those behind it waiting.
    lanes: Box<[Lane]>,
    turn: AtomicUsize,
    limit: Duration,
    subscribing: Subscribing,
    subscriber: OnceLock<Subscriber>,
    /// Connected to since it was last examined: it may not be the server that it was.
    fresh: AtomicBool,
    attention: Arc<Notify>,
}

#[derive(Default)]
struct Lane(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Dialling(u64, Dialling),
    Ready(Arc<Link>),
    /// The last try failed just now; the next is not made before then.
    Failed(RedisError, Instant),
}

type Dialling = Shared<BoxFuture<'static, RedisResult<Arc<Link>>>>;

/// A connection that works as far as anybody knows.
struct Link {
    number: u64,
    connection: MultiplexedConnection,
    probed: AtomicBool,
}

/// Between two tries to connect: a server that is down is not stormed.
const PAUSE: Duration = Duration::from_millis(25);

impl Node {
    pub(crate) fn new(
        address: Address,
        dialler: Arc<Dialler>,
        lanes: usize,
        limit: Duration,
        subscribing: Subscribing,
        attention: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Self {
            address,
            dialler,
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            turn: AtomicUsize::new(0),
            limit,
            subscribing,
            subscriber: OnceLock::new(),
            fresh: AtomicBool::new(false),
            attention,
        })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it has been connected to since this was asked last.
    pub(crate) fn take_fresh(&self) -> bool {
        self.fresh.swap(false, Ordering::SeqCst)
    }

    /// Has it examined, if it was connected to since that was done last.
    pub(crate) fn ask_attention(&self) {
        if self.fresh.load(Ordering::SeqCst) {
            self.attention.notify_one();
        }
    }

    /// A connection of its own, on which the server may speak by itself.
    pub(crate) async fn listen(&self, on_push: OnPush) -> RedisResult<MultiplexedConnection> {
        self.dialler.dial(&self.address, Some(on_push)).await
    }

    /// Who listens to this server.
    pub(crate) fn subscriber(&self) -> &Subscriber {
        self.subscriber.get_or_init(|| {
            let dialler = Arc::clone(&self.dialler);
            Subscriber::new(self.address.clone(), dialler, self.subscribing.clone())
        })
    }

    /// Sends `pipeline` at once, and gives its answers.
    ///
    /// When this future is dropped the request may still be carried out; its answer is read and
    /// thrown away, and belongs to no other request.
    pub(crate) async fn send(self: &Arc<Self>, pipeline: &Pipeline) -> Result<Vec<Value>, Broken> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        let link = self.link(turn).await.map_err(Broken::Unreached)?;
        let mut connection = link.connection.clone();
        let mut watch = Doubt {
            node: self,
            turn,
            link: &link,
            settled: false,
        };
        let answers = connection.req_packed_commands(pipeline, 0, pipeline.len());
        let answers = answers.await;
        watch.settled = true;
        answers.map_err(|error| {
            self.forget(turn, link.number);
            Broken::Lost(error)
        })
    }

    /// One command, for what is asked rarely.
    pub(crate) async fn ask(self: &Arc<Self>, command: Cmd) -> Result<Value, Broken> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        let mut answers = self.send(&pipeline).await?;
        Ok(answers.pop().unwrap_or(Value::Nil))
    }

    async fn link(self: &Arc<Self>, turn: usize) -> RedisResult<Arc<Link>> {
        let dialling = {
            let mut state = self.lanes[turn].lock();
            match &*state {
                State::Ready(link) => return Ok(Arc::clone(link)),
                State::Dialling(_, dialling) => dialling.clone(),
                State::Failed(error, until) if Instant::now() < *until => return Err(error.clone()),
                State::Idle | State::Failed(..) => {
                    let (number, dialling) = self.dial(turn);
                    *state = State::Dialling(number, dialling.clone());
                    dialling
                }
            }
        };
        dialling.await
    }

    /// Connects on a task of its own: whoever gives up waiting does not undo it for the others.
    fn dial(self: &Arc<Self>, turn: usize) -> (u64, Dialling) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let node = Arc::clone(self);
        let task = tokio::spawn(async move {
            let dialled = node.dialler.dial(&node.address, None).await;
            let link = dialled.map(|connection| {
                Arc::new(Link {
                    number,
                    connection,
                    probed: AtomicBool::new(false),
                })
            });
            let mut state = node.lanes[turn].lock();
            if matches!(&*state, State::Dialling(of, _) if *of == number) {
                *state = match &link {
                    Ok(link) => State::Ready(Arc::clone(link)),
                    Err(error) => State::Failed(error.clone(), Instant::now() + PAUSE),
                };
            }
            drop(state);
            if link.is_ok() {
                node.fresh.store(true, Ordering::SeqCst);
                node.ask_attention();
            }
            link
        });
        let dialling = async move {
            task.await.unwrap_or_else(|_| {
                // The runtime is shutting down: nobody is left to be told more.
                Err(RedisError::from(std::io::Error::other("shut down")))
            })
        };
        (number, dialling.boxed().shared())
    }

    fn forget(&self, turn: usize, number: u64) {
        let mut state = self.lanes[turn].lock();
        if matches!(&*state, State::Ready(link) if link.number == number) {
            *state = State::Idle;
        }
    }

    /// Finds out whether a connection that did not answer in time is still good for anything.
    fn probe(self: &Arc<Self>, turn: usize, link: &Arc<Link>) {
        if link.probed.swap(true, Ordering::SeqCst) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return self.forget(turn, link.number);
        };
        let (node, link) = (Arc::clone(self), Arc::clone(link));
        runtime.spawn(async move {
            let mut connection = link.connection.clone();
            let ping = redis::cmd("PING");
            let answer = timeout(node.limit, connection.req_packed_command(&ping)).await;
            if !matches!(answer, Ok(Ok(_))) {
                node.forget(turn, link.number);
            }
            link.probed.store(false, Ordering::SeqCst);
        });
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.address)
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It was not sent.
    Unreached(RedisError),
    /// It may have been.
    Lost(RedisError),
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request whose sender went away before its answer came.
struct Doubt<'a> {
    node: &'a Arc<Node>,
    turn: usize,
    link: &'a Arc<Link>,
    settled: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.node.probe(self.turn, self.link);
        }
    }
}
