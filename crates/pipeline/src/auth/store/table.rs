//! All sessions and tickets of one process, and what happens to them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use onlyonce_core::{StoreErrorKind, Timestamp};

use super::{Current, Look, Session, SessionKey, TokenKey, TokenStoreError, UserKey};

/// All sessions and tickets; what has expired goes when others come.
#[derive(Debug)]
pub(super) struct Table {
    users: HashMap<UserKey, User>,
    tickets: HashMap<TokenKey, Ticket>,
    /// By when it ends.
    ends: BTreeSet<(Timestamp, What)>,
    capacity: usize,
    /// How much a ticket's grant can take.
    most_grant: usize,
}

#[derive(Debug, Default)]
struct User {
    current: Option<TokenKey>,
    sessions: HashMap<TokenKey, Kept>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    pub(super) refreshes: u32,
}

#[derive(Debug)]
struct Ticket {
    until: Timestamp,
    grant: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Session(UserKey, TokenKey),
    Ticket(TokenKey),
}

/// A change that was decided on and is now made, here and maybe in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A session is as it says from now on, and, where `current`, its user's current one.
    Put {
        session: SessionKey,
        kept: Kept,
        current: bool,
    },
    /// A session is no more.
    Remove { session: SessionKey },
}

/// A ticket's grant can't be longer: it holds one identity.
const MOST_GRANT: usize = 64 * 1024;

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            users: HashMap::new(),
            tickets: HashMap::new(),
            ends: BTreeSet::new(),
            capacity,
            most_grant: MOST_GRANT,
        }
    }

    pub(super) fn begin(
        &mut self,
        session: &SessionKey,
        keep: Duration,
        at_most: usize,
        now: Timestamp,
    ) -> Result<Vec<Change>, TokenStoreError> {
        self.sweep(now);
        let mut changes = Vec::new();
        if let Some(user) = self.users.get(&session.user) {
            let mut others: Vec<_> = user
                .sessions
                .iter()
                .filter(|(token, _)| **token != session.token)
                .map(|(token, kept)| (kept.until, kept.since, *token))
                .collect();
            others.sort_unstable();
            let too_many = (others.len() + 1).saturating_sub(at_most.max(1));
            for (_, _, token) in others.into_iter().take(too_many) {
                let user = session.user;
                let session = SessionKey { user, token };
                changes.push(Change::Remove { session });
            }
        }
        if changes.is_empty() && self.len() >= self.capacity {
            return Err(self.full());
        }
        changes.push(Change::Put {
            session: *session,
            kept: Kept {
                since: now,
                until: now.plus(keep),
                refreshes: 0,
            },
            current: true,
        });
        Ok(changes)
    }

    pub(super) fn look(&self, session: &SessionKey, now: Timestamp) -> Look {
        let kept = self.kept(session, now);
        let current = self.users.get(&session.user).and_then(|user| {
            let token = user.current?;
            // One that has expired is no longer current, though it is still there.
            let user = session.user;
            self.kept(&SessionKey { user, token }, now).map(|_| token)
        });
        Look {
            session: kept.map(|kept| Session {
                refreshes: kept.refreshes,
                age: now.since(kept.since),
                remaining: kept.until.since(now),
            }),
            current: match current {
                None => Current::None,
                Some(token) if token == session.token => Current::This,
                Some(_) => Current::Other,
            },
        }
    }

    pub(super) fn extend(
        &self,
        session: &SessionKey,
        refreshes: u32,
        keep: Duration,
        now: Timestamp,
    ) -> Option<Vec<Change>> {
        let kept = self.kept(session, now)?;
        (kept.refreshes == refreshes).then(|| {
            vec![Change::Put {
                session: *session,
                kept: Kept {
                    since: now,
                    until: now.plus(keep),
                    refreshes: refreshes.saturating_add(1),
                },
                current: false,
            }]
        })
    }

    pub(super) fn replace(
        &self,
        session: &SessionKey,
        token: &TokenKey,
        refreshes: u32,
        keep: Duration,
        now: Timestamp,
    ) -> Option<Vec<Change>> {
        let kept = self.kept(session, now)?;
        let current = self.look(session, now).current == Current::This;
        (kept.refreshes == refreshes).then(|| {
            vec![
                Change::Remove { session: *session },
                Change::Put {
                    session: SessionKey {
                        user: session.user,
                        token: *token,
                    },
                    kept: Kept {
                        since: now,
                        until: now.plus(keep),
                        refreshes: refreshes.saturating_add(1),
                    },
                    current,
                },
            ]
        })
    }

    pub(super) fn end(&self, session: &SessionKey, now: Timestamp) -> Option<Vec<Change>> {
        self.kept(session, now)
            .map(|_| vec![Change::Remove { session: *session }])
    }

    pub(super) fn end_all(&self, user: &UserKey) -> Vec<Change> {
        let sessions = self.users.get(user).map(|user| user.sessions.keys());
        let all = sessions.into_iter().flatten();
        all.map(|token| Change::Remove {
            session: SessionKey {
                user: *user,
                token: *token,
            },
        })
        .collect()
    }

    pub(super) fn put_ticket(
        &mut self,
        ticket: &TokenKey,
        grant: &[u8],
        keep: Duration,
        now: Timestamp,
    ) -> Result<(), TokenStoreError> {
        self.sweep(now);
        if grant.len() > self.most_grant {
            return Err(TokenStoreError::new(
                StoreErrorKind::Misconfigured,
                format!("a ticket can't stand for more than {MOST_GRANT} bytes"),
            ));
        }
        if self.len() >= self.capacity {
            return Err(self.full());
        }
        let until = now.plus(keep);
        let grant = grant.to_vec();
        let before = self.tickets.insert(*ticket, Ticket { until, grant });
        if let Some(before) = before {
            self.ends.remove(&(before.until, What::Ticket(*ticket)));
        }
        self.ends.insert((until, What::Ticket(*ticket)));
        Ok(())
    }

    pub(super) fn take_ticket(&mut self, ticket: &TokenKey, now: Timestamp) -> Option<Vec<u8>> {
        let taken = self.tickets.remove(ticket)?;
        self.ends.remove(&(taken.until, What::Ticket(*ticket)));
        (taken.until > now).then_some(taken.grant)
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Put {
                session,
                kept,
                current,
            } => {
                let user = self.users.entry(session.user).or_default();
                let before = user.sessions.insert(session.token, *kept);
                if *current {
                    user.current = Some(session.token);
                }
                let what = What::Session(session.user, session.token);
                if let Some(before) = before {
                    self.ends.remove(&(before.until, what));
                }
                self.ends.insert((kept.until, what));
            }
            Change::Remove { session } => {
                let Some(user) = self.users.get_mut(&session.user) else {
                    return;
                };
                if let Some(before) = user.sessions.remove(&session.token) {
                    let what = What::Session(session.user, session.token);
                    self.ends.remove(&(before.until, what));
                }
                if user.current == Some(session.token) {
                    user.current = None;
                }
                if user.sessions.is_empty() {
                    self.users.remove(&session.user);
                }
            }
        }
    }

    /// Sessions and tickets, also expired ones that are still there.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// All sessions that have not expired, as changes that make them.
    pub(super) fn snapshot(&self, now: Timestamp) -> impl Iterator<Item = Change> {
        self.users.iter().flat_map(move |(user_key, user)| {
            user.sessions
                .iter()
                .filter(move |(_, kept)| kept.until > now)
                .map(move |(token, kept)| Change::Put {
                    session: SessionKey {
                        user: *user_key,
                        token: *token,
                    },
                    kept: *kept,
                    current: user.current == Some(*token),
                })
        })
    }

    fn kept(&self, session: &SessionKey, now: Timestamp) -> Option<Kept> {
        let user = self.users.get(&session.user)?;
        let kept = user.sessions.get(&session.token)?;
        (kept.until > now).then_some(*kept)
    }

    pub(super) fn sweep(&mut self, now: Timestamp) {
        while let Some((until, what)) = self.ends.first().copied()
            && until <= now
        {
            match what {
                What::Session(user, token) => self.apply(&Change::Remove {
                    session: SessionKey { user, token },
                }),
                What::Ticket(ticket) => {
                    self.tickets.remove(&ticket);
                }
            }
            self.ends.remove(&(until, what));
        }
    }

    fn full(&self) -> TokenStoreError {
        TokenStoreError::new(
            StoreErrorKind::Full,
            format!(
                "{} sessions and tickets are live, and there is room for no more; raise the \
                 capacity, or let them last shorter",
                self.capacity
            ),
        )
    }
}
