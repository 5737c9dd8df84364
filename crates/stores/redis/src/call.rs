//! One step of a record on its server: sent, sent on, and sent again where that is safe.

use std::sync::Arc;
use std::time::Duration;

use onlyonce_core::{Operation, RecordId, StoreError, StoreErrorKind};
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::Fault;
use crate::node::{Broken, Node};
use crate::place::Places;
use crate::route::Routes;
use crate::scripts::Source;

/// A script to run for a record.
pub(crate) struct Step<'a> {
    pub(crate) operation: Operation,
    pub(crate) id: &'a RecordId,
    pub(crate) script: &'a Source,
    pub(crate) arguments: &'a [&'a [u8]],
    /// Whether what it did, or saw, must not be lost with the server.
    pub(crate) replicated: bool,
    /// Whether doing it twice is as good as doing it once.
    pub(crate) repeatable: bool,
}

/// A script to run on keys that lie in one slot.
pub(crate) struct Call<'a> {
    pub(crate) operation: Operation,
    pub(crate) slot: u16,
    pub(crate) keys: &'a [String],
    pub(crate) script: &'a Source,
    pub(crate) arguments: &'a [&'a [u8]],
    /// As with a [`Step`].
    pub(crate) replicated: bool,
    /// As with a [`Step`].
    pub(crate) repeatable: bool,
}

/// How requests get to the servers.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) routes: Routes,
    pub(crate) places: Places,
    pub(crate) replicas: usize,
    pub(crate) limit: Duration,
}

/// Before a server that turned us away is asked again.
const PAUSE: Duration = Duration::from_millis(15);

/// Where the next try goes, and how.
#[derive(Default)]
struct Course {
    /// To this server in place of the one that the map names.
    to: Option<Arc<Node>>,
    /// The server has the record, though not yet the slot.
    asking: bool,
    /// With the script's whole text.
    in_full: bool,
}

impl Caller {
    /// Runs a script on a record, within the time limit.
    pub(crate) async fn run(&self, step: &Step<'_>) -> Result<Value, StoreError> {
        let keys = [self.places.key(step.id), self.places.sequence(step.id)];
        let call = Call {
            operation: step.operation,
            slot: Places::slot(step.id),
            keys: &keys,
            script: step.script,
            arguments: step.arguments,
            replicated: step.replicated,
            repeatable: step.repeatable,
        };
        self.call(&call).await
    }

    /// Runs a script, within the time limit.
    pub(crate) async fn call(&self, step: &Call<'_>) -> Result<Value, StoreError> {
        let deadline = Instant::now() + self.limit;
        let slot = step.slot;
        let mut course = Course::default();
        let mut last = None;
        loop {
            let tried = timeout_at(deadline, self.attempt(step, slot, &course, deadline)).await;
            let Ok(tried) = tried else {
                return Err(self.late(step.operation, last));
            };
            let (node, fault) = match tried {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let next = Course::default();
            let pause = match &fault {
                Fault::Final(_) => return Err(fault.give_up(step.operation)),
                Fault::Lost(_) if !step.repeatable => {
                    self.doubt(node.as_ref());
                    return Err(fault.give_up(step.operation));
                }
                Fault::NoScript => {
                    // To the same server, in the same way.
                    course.in_full = true;
                    last = Some(fault);
                    continue;
                }
                Fault::Moved(Some(address)) => {
                    self.routes.moved(slot, address);
                    Duration::ZERO
                }
                Fault::Ask(Some(address)) => {
                    course = Course {
                        to: self.routes.named(address),
                        asking: true,
                        in_full: false,
                    };
                    last = Some(fault);
                    continue;
                }
                Fault::Moved(None) | Fault::Ask(None) | Fault::NotMaster(_) => {
                    self.doubt(node.as_ref());
                    PAUSE
                }
                Fault::Unreached(_) | Fault::Lost(_) => {
                    self.doubt(node.as_ref());
                    PAUSE
                }
                Fault::Later(_) => PAUSE,
            };
            course = next;
            if Instant::now() + pause >= deadline {
                return Err(fault.give_up(step.operation));
            }
            last = Some(fault);
            sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        step: &Call<'_>,
        slot: u16,
        course: &Course,
        deadline: Instant,
    ) -> Result<Value, (Option<Arc<Node>>, Fault)> {
        let node = match &course.to {
            Some(node) => Arc::clone(node),
            None => {
                let node = self.routes.node(step.operation, slot).await;
                node.map_err(|fault| (None, fault))?
            }
        };
        let tried = self.send(step, &node, course, deadline).await;
        tried.map_err(|fault| (Some(node), fault))
    }

    async fn send(
        &self,
        step: &Call<'_>,
        node: &Arc<Node>,
        course: &Course,
        deadline: Instant,
    ) -> Result<Value, Fault> {
        let mut pipeline = Pipeline::with_capacity(3);
        if course.asking {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(Self::command(step, course.in_full));
        let replicas = if step.replicated { self.replicas } else { 0 };
        if replicas > 0 {
            // The answer has to be back before the deadline, and 0 would wait for ever.
            let left = deadline.saturating_duration_since(Instant::now()) / 2;
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
            pipeline.cmd("WAIT").arg(replicas).arg(left);
        }
        let answers = node.send(&pipeline).await.map_err(|broken| match broken {
            Broken::Unreached(error) => Fault::of_dialling(step.operation, error, node.address()),
            Broken::Lost(error) => Fault::of_connection(error),
        })?;
        let mut answers = answers.into_iter().skip(usize::from(course.asking));
        let value = match answers.next() {
            Some(Value::ServerError(error)) => {
                return Err(Fault::of_reply(step.operation, error, node.address()));
            }
            Some(value) => value,
            None => return Err(Fault::Final(strange(step.operation))),
        };
        if replicas > 0 {
            self.check_replicas(step.operation, node, answers.next())?;
        }
        Ok(value)
    }

    fn check_replicas(
        &self,
        operation: Operation,
        node: &Node,
        answer: Option<Value>,
    ) -> Result<(), Fault> {
        match answer {
            Some(Value::Int(count)) if usize::try_from(count).is_ok_and(|n| n >= self.replicas) => {
                Ok(())
            }
            Some(Value::Int(count)) => {
                let message = format!(
                    "of {} replicas that must have the record, {count} of Redis at {} \
                     acknowledged it in time; it may or may not be kept",
                    self.replicas,
                    node.address(),
                );
                let kind = StoreErrorKind::Unavailable;
                Err(Fault::Final(StoreError::new(operation, kind, message)))
            }
            Some(Value::ServerError(error)) => {
                Err(Fault::of_reply(operation, error, node.address()))
            }
            _ => Err(Fault::Final(strange(operation))),
        }
    }

    fn command(step: &Call<'_>, in_full: bool) -> Cmd {
        let mut command = if in_full {
            let mut command = redis::cmd("EVAL");
            command.arg(step.script.text);
            command
        } else {
            let mut command = redis::cmd("EVALSHA");
            command.arg(&step.script.hash);
            command
        };
        command.arg(step.keys.len()).arg(step.keys);
        for argument in step.arguments {
            command.arg(*argument);
        }
        command
    }

    fn doubt(&self, node: Option<&Arc<Node>>) {
        if let Some(node) = node {
            self.routes.doubt(node);
        }
    }

    fn late(&self, operation: Operation, last: Option<Fault>) -> StoreError {
        match last {
            // What went wrong before says more than that the time was up.
            Some(
                fault @ (Fault::Unreached(_)
                | Fault::Later(_)
                | Fault::NotMaster(_)
                | Fault::Moved(_)
                | Fault::Ask(_)),
            ) => fault.give_up(operation),
            _ => {
                let message = format!(
                    "Redis did not answer within {:?}; the step may or may not be done",
                    self.limit
                );
                StoreError::new(operation, StoreErrorKind::Timeout, message)
            }
        }
    }
}

/// The server said what no script of ours says.
pub(crate) fn strange(operation: Operation) -> StoreError {
    StoreError::new(
        operation,
        StoreErrorKind::Corrupt,
        "Redis gave an answer that is none of a script of Onlyonce's",
    )
}
