//! Clients that retry, several for each key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use onlyonce::{Concurrent, Key, Policy, Profile, Scope};
use onlyonce_checker::{
    Answer, Asked, Call, Digest, History, Log, Name, Op, Outcome, Promised, Report, RequestId,
    check,
};
use onlyonce_core::{OnUnknown, RecordId};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::{eventually, within};
use crate::node::{FAILS, Handler, Node, REQUEST, SCOPE, WORK, secret};

/// Keys in use at once.
const AT_ONCE: usize = 24;
/// Keys in all: a load that is not stopped ends with the last of them.
const MOST_KEYS: usize = 2000;
const BETWEEN_KEYS: Duration = Duration::from_millis(5);
/// Requests of one client for one key. With the waits between them, some ten seconds.
const MOST_TRIES: usize = 100;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);
const LONGEST_BETWEEN_TRIES: Duration = Duration::from_millis(100);

const LEASE: Duration = Duration::from_secs(2);
pub(crate) const LIFETIME: Duration = Duration::from_secs(3600);
/// For the store to answer to a step.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(600);

/// What the nodes follow: the first refuses duplicates, the second lets them wait.
pub(crate) fn policies(on_unknown: OnUnknown) -> [Policy; 2] {
    let policy = |concurrent| {
        let mut policy = Policy::new(Profile::Standard);
        policy.lease = LEASE;
        policy.lifetime = LIFETIME;
        policy.store_timeout = STORE_TIMEOUT;
        policy.on_unknown = on_unknown;
        policy.concurrent = concurrent;
        policy.verdict_headers = true;
        policy.wait_timeout = Duration::from_millis(300);
        policy
    };
    [policy(Concurrent::Reject), policy(Concurrent::Wait)]
}

/// The same for a store whose steps may take so long, on a machine that is slow.
pub(crate) fn patient(mut policies: [Policy; 2], timeout: Duration) -> [Policy; 2] {
    for policy in &mut policies {
        policy.store_timeout = timeout;
        policy.lease = timeout * 3;
    }
    policies
}

/// Load on two nodes.
pub(crate) struct Load {
    site: Site,
    stopping: Arc<AtomicBool>,
    clients: JoinHandle<()>,
}

/// What every client knows.
#[derive(Clone)]
struct Site {
    history: History,
    nodes: [Node; 2],
}

/// One client's business with one key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Errand {
    name: Name,
    fingerprint: Arc<str>,
    /// So that no two clients do the same at the same time, and each run does the same.
    number: usize,
}

impl Load {
    /// Load on nodes with these stores, from now on.
    pub(crate) fn start<S: onlyonce_core::Store>(
        stores: [S; 2],
        history: &History,
        policies: [Policy; 2],
    ) -> Self {
        let handler = Handler::new(history);
        let [one, two] = policies;
        let [first, second] = stores;
        let nodes = [
            Node::new(first, "node 1", &handler, one),
            Node::new(second, "node 2", &handler, two),
        ];
        Self::on(nodes, history)
    }

    pub(crate) fn on(nodes: [Node; 2], history: &History) -> Self {
        let site = Site {
            history: history.clone(),
            nodes,
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let clients = tokio::spawn(send_all(site.clone(), Arc::clone(&stopping)));
        Self {
            site,
            stopping,
            clients,
        }
    }

    /// When the record of the first key goes, by each node's clock. It is executed if it was not.
    pub(crate) async fn expiries(&self) -> [SystemTime; 2] {
        let errand = errands(0).remove(1);
        let mut expiries = Vec::new();
        for node in &self.site.nodes {
            let site = Site {
                history: self.site.history.clone(),
                nodes: [node.clone(), node.clone()],
            };
            run(site.clone(), errand.clone(), MOST_TRIES).await;
            let id = site.history.request(asked(&errand));
            let reply = node.send(request(&errand, id)).await;
            site.history
                .response(id, reply.outcome, reply.status, reply.digest);
            expiries.push(reply.expires.unwrap());
        }
        expiries.try_into().unwrap()
    }

    /// Waits until the log has so many more of something.
    pub(crate) async fn more(&self, what: &str, many: usize, count: fn(&Log) -> usize) {
        let history = &self.site.history;
        let before = history.count(count);
        eventually(what, || history.count(count) >= before + many).await;
    }

    /// Begins no new keys, lets all clients come to their end, asks for every key once more, and
    /// looks what became of it all.
    pub(crate) async fn judge(self, on_unknown: OnUnknown) -> Report {
        self.stopping.store(true, Ordering::Relaxed);
        within("the clients come to their end", self.clients)
            .await
            .unwrap();
        let site = self.site;
        let errands: BTreeSet<Errand> = site.history.log().requests.into_iter().map(last).collect();
        within("every key comes to its end", ask_again(&site, errands)).await;
        for node in &site.nodes {
            let ended = node.engine.shutdown(Duration::from_secs(30)).await;
            assert!(ended, "{} tasks are still running", node.engine.running());
        }
        let promised = Promised {
            on_unknown,
            lifetime: LIFETIME,
        };
        check(&site.history.log(), &promised)
    }
}

pub(crate) fn acknowledged(log: &Log) -> usize {
    let is = |call: &&Call| {
        let answer = call.ended.as_ref().map(|(_, answer)| answer);
        matches!(
            (call.op, answer),
            (Op::Claim { .. }, Some(Answer::Won(_))) | (Op::Complete { .. }, Some(Answer::Applied))
        )
    };
    log.calls.iter().filter(is).count()
}

/// Calls that the store did not answer, or said that it could not.
pub(crate) fn failures(log: &Log) -> usize {
    let answers = log.calls.iter().filter_map(|call| call.ended.as_ref());
    let failed = answers.filter(|(_, answer)| matches!(answer, Answer::Failed(_)));
    failed.count()
}

pub(crate) fn requests(log: &Log) -> usize {
    log.requests.len()
}

pub(crate) fn executions(log: &Log) -> usize {
    log.executions.len()
}

async fn send_all(site: Site, stopping: Arc<AtomicBool>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut keys = JoinSet::new();
    for key in 0..MOST_KEYS {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let site = site.clone();
        keys.spawn(async move {
            let mut clients = JoinSet::new();
            for errand in errands(key) {
                clients.spawn(run(site.clone(), errand, MOST_TRIES));
            }
            while let Some(ended) = clients.join_next().await {
                ended.unwrap();
            }
            drop(place);
        });
        tokio::time::sleep(BETWEEN_KEYS).await;
        while let Some(ended) = keys.try_join_next() {
            ended.unwrap();
        }
    }
    while let Some(ended) = keys.join_next().await {
        ended.unwrap();
    }
}

/// Three clients want the same; for some keys another wants something else, or a stranger has a key
/// of the same name.
fn errands(key: usize) -> Vec<Errand> {
    let errand = |scope: &str, fingerprint: &str, client: usize| Errand {
        name: Name::new(scope, &format!("key-{key}")),
        fingerprint: fingerprint.into(),
        number: key * 5 + client,
    };
    let mut errands: Vec<_> = (0..3).map(|client| errand("alice", "10", client)).collect();
    if key % 5 == 1 {
        errands.push(errand("alice", "11", 3));
    }
    if key % 5 == 2 {
        errands.push(errand("bob", "10", 4));
    }
    errands
}

fn last(request: onlyonce_checker::Request) -> Errand {
    Errand {
        name: request.name,
        fingerprint: request.fingerprint,
        number: 0,
    }
}

async fn ask_again(site: &Site, errands: BTreeSet<Errand>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    for errand in errands {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let site = site.clone();
        asking.spawn(async move {
            run(site, errand, usize::MAX).await;
            drop(place);
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended.unwrap();
    }
}

/// Asks until there is an end to it, now here, now there, and sometimes hangs up early.
async fn run(site: Site, errand: Errand, tries: usize) {
    let mut pause = BETWEEN_TRIES;
    for number in 0..tries {
        let turn = errand.number + number;
        let node = &site.nodes[turn % site.nodes.len()];
        let hangs_up = turn % 11 == 3;
        let patience = Duration::from_millis(if hangs_up { 8 } else { 5_000 });
        if send(&site.history, node, &errand, patience).await {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_BETWEEN_TRIES);
    }
}

/// Gives whether the client need not ask again.
async fn send(history: &History, node: &Node, errand: &Errand, patience: Duration) -> bool {
    let asked = asked(errand);
    let id = history.request(asked);
    let sending = node.send(request(errand, id));
    let Ok(reply) = tokio::time::timeout(patience, sending).await else {
        let outcome = Outcome::ConnectionError;
        history.response(id, outcome, 0, Digest::of(b""));
        return false;
    };
    history.response(id, reply.outcome, reply.status, reply.digest);
    reply.outcome.is_final() && reply.status != 500
}

fn asked(errand: &Errand) -> Asked {
    let name = &errand.name;
    let (key, scope) = (Key::new(&*name.key).unwrap(), Scope::custom(&*name.scope));
    Asked {
        name: name.clone(),
        record: RecordId::new(&secret(), &scope, &key),
        fingerprint: Arc::clone(&errand.fingerprint),
    }
}

fn request(errand: &Errand, id: RequestId) -> Request<Full<Bytes>> {
    let Errand {
        name,
        fingerprint,
        number,
    } = errand;
    let fails = usize::from(number % 8 == 0);
    let request = Request::post("/charges")
        .header("idempotency-key", &*name.key)
        .header(SCOPE, &*name.scope)
        .header(REQUEST, id.0)
        .header(WORK, number * 7 % 25)
        .header(FAILS, fails);
    let body = Bytes::from(fingerprint.to_string());
    request.body(Full::new(body)).unwrap()
}
