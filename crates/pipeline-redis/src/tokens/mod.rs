//! Sessions of tokens, and tickets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::StoreError;
use onlyonce_pipeline::auth::store::{
    Current, Look, Session, SessionKey, TokenKey, TokenStore, TokenStoreError, UserKey,
};
use onlyonce_redis::{Link, LinkScript, RedisStore};
use redis::Value;

/// Sessions and tickets on Redis or Valkey, for all processes that use the same URL and prefix.
/// Cloning is cheap and gives the same store.
///
/// A user's sessions are one hash, `oo:{session:HASH}`, and a ticket is one value,
/// `oo:{ticket:HASH}` (with the store's [prefix](onlyonce_redis::Builder::prefix)); each step is one
/// script on one of them, so that it is atomic on a Cluster too. Neither tokens nor users' names
/// are stored, only hashes. The server's clock alone decides what has expired.
///
/// After a failover a server may have lost a login or a logout that it had acknowledged a moment
/// before, unless the URL asks for replicas to be waited for: see
/// [`onlyonce_redis`](onlyonce_redis#urls).
///
/// # Example
/// ```no_run
/// use onlyonce_pipeline::auth::{TokenKeys, Tokens};
/// use onlyonce_pipeline_redis::RedisTokenStore;
///
/// # async fn example(keys: TokenKeys) -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedisTokenStore::connect("redis://:password@127.0.0.1:6379/0").await?;
/// let tokens = Tokens::builder("admin", keys).with_store(store).build()?;
/// # let _ = tokens; Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisTokenStore(Arc<Shared>);

struct Shared {
    link: Link,
    session: LinkScript,
    put_ticket: LinkScript,
    take_ticket: LinkScript,
}

/// Whether a step changes something, and whether it may be sent twice.
#[derive(Clone, Copy)]
struct Kind {
    writes: bool,
    repeatable: bool,
}

const READ: Kind = Kind {
    writes: false,
    repeatable: true,
};
const WRITE: Kind = Kind {
    writes: true,
    repeatable: true,
};
/// What is taken is taken once; a second try would find nothing and say so.
const TAKE: Kind = Kind {
    writes: true,
    repeatable: false,
};

impl RedisTokenStore {
    /// Connects to the servers of a URL: see [`onlyonce_redis`](onlyonce_redis#urls).
    ///
    /// # Errors
    /// As [`onlyonce_redis::Builder::connect`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Ok(Self::new(&RedisStore::connect(url).await?))
    }

    /// Sessions beside the records of a store, over the same connections.
    #[must_use]
    pub fn new(store: &RedisStore) -> Self {
        Self(Arc::new(Shared {
            link: store.link(),
            session: LinkScript::new(include_str!("session.lua")),
            put_ticket: LinkScript::new(include_str!("put_ticket.lua")),
            take_ticket: LinkScript::new(include_str!("take_ticket.lua")),
        }))
    }

    async fn run(
        &self,
        tag: &str,
        script: &LinkScript,
        arguments: &[&[u8]],
        kind: Kind,
    ) -> Result<Value, TokenStoreError> {
        let Kind { writes, repeatable } = kind;
        let link = &self.0.link;
        let keys = [link.name(tag, "")];
        let run = link.run(tag, script, &keys, arguments, writes, repeatable);
        Ok(run.await?)
    }

    async fn session(
        &self,
        user: &UserKey,
        arguments: &[&str],
        kind: Kind,
    ) -> Result<Value, TokenStoreError> {
        let tag = format!("session:{user}");
        let arguments: Vec<&[u8]> = arguments.iter().map(|text| text.as_bytes()).collect();
        self.run(&tag, &self.0.session, &arguments, kind).await
    }

    async fn step(&self, user: &UserKey, arguments: &[&str]) -> Result<bool, TokenStoreError> {
        match self.session(user, arguments, WRITE).await? {
            Value::Int(done) => Ok(done == 1),
            _ => Err(self.strange()),
        }
    }

    fn strange(&self) -> TokenStoreError {
        self.0.link.strange().into()
    }
}

impl TokenStore for RedisTokenStore {
    async fn begin(
        &self,
        session: &SessionKey,
        keep: Duration,
        at_most: usize,
    ) -> Result<(), TokenStoreError> {
        let (token, keep) = (session.token.to_string(), millis(keep));
        let at_most = at_most.max(1).to_string();
        self.step(&session.user, &["begin", &token, &keep, &at_most])
            .await
            .map(|_| ())
    }

    async fn look(&self, session: &SessionKey) -> Result<Look, TokenStoreError> {
        let token = session.token.to_string();
        let answer = self.session(&session.user, &["look", &token], READ).await?;
        let Value::Array(answer) = answer else {
            return Err(self.strange());
        };
        let numbers: Option<Vec<u64>> = answer.iter().map(number).collect();
        let look = numbers.as_deref().and_then(read);
        look.ok_or_else(|| self.strange())
    }

    async fn extend(
        &self,
        session: &SessionKey,
        refreshes: u32,
        keep: Duration,
    ) -> Result<bool, TokenStoreError> {
        let (token, keep) = (session.token.to_string(), millis(keep));
        let refreshes = refreshes.to_string();
        self.step(&session.user, &["extend", &token, &keep, &refreshes])
            .await
    }

    async fn replace(
        &self,
        session: &SessionKey,
        token: &TokenKey,
        refreshes: u32,
        keep: Duration,
    ) -> Result<bool, TokenStoreError> {
        let (old, new, keep) = (session.token.to_string(), token.to_string(), millis(keep));
        let refreshes = refreshes.to_string();
        self.step(&session.user, &["replace", &old, &keep, &refreshes, &new])
            .await
    }

    async fn end(&self, session: &SessionKey) -> Result<bool, TokenStoreError> {
        let token = session.token.to_string();
        self.step(&session.user, &["end", &token]).await
    }

    async fn end_all(&self, user: &UserKey) -> Result<(), TokenStoreError> {
        self.step(user, &["end all", ""]).await.map(|_| ())
    }

    async fn put_ticket(
        &self,
        ticket: &TokenKey,
        grant: &[u8],
        keep: Duration,
    ) -> Result<(), TokenStoreError> {
        let (tag, keep) = (format!("ticket:{ticket}"), millis(keep));
        let arguments = [grant, keep.as_bytes()];
        let put = self.run(&tag, &self.0.put_ticket, &arguments, WRITE);
        put.await.map(|_| ())
    }

    async fn take_ticket(&self, ticket: &TokenKey) -> Result<Option<Vec<u8>>, TokenStoreError> {
        let tag = format!("ticket:{ticket}");
        match self.run(&tag, &self.0.take_ticket, &[], TAKE).await? {
            Value::Nil => Ok(None),
            Value::BulkString(grant) => Ok(Some(grant)),
            _ => Err(self.strange()),
        }
    }
}

fn read(numbers: &[u64]) -> Option<Look> {
    let (whose, session) = numbers.split_first()?;
    Some(Look {
        session: match session {
            [] => None,
            [refreshes, age, remaining] => Some(Session {
                refreshes: u32::try_from(*refreshes).ok()?,
                age: Duration::from_millis(*age),
                remaining: Duration::from_millis(*remaining),
            }),
            _ => return None,
        },
        current: match whose {
            0 => Current::None,
            1 => Current::This,
            2 => Current::Other,
            _ => return None,
        },
    })
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// Whole milliseconds, one at least: the server takes no other.
fn millis(keep: Duration) -> String {
    keep.as_millis().max(1).to_string()
}

impl fmt::Debug for RedisTokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisTokenStore")
    }
}
