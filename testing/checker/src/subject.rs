//! All that a log has of one key.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::event::{
    Answer, Call, Digest, Execution, Finish, Log, Moment, Name, Op, Outcome, Request, Response,
    Sighting,
};
use crate::report::{Rule, Violation};

/// One key, and what happened to it.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a Name,
    pub(crate) log: &'a Log,
    pub(crate) requests: Vec<&'a Request>,
    /// By the requests that they ran for.
    pub(crate) executions: Vec<&'a Execution>,
    pub(crate) answers: Vec<Answered<'a>>,
    pub(crate) calls: Vec<&'a Call>,
    /// What the store had acknowledged, and lost in an incident: by fence.
    pub(crate) lost: BTreeMap<u64, Lost>,
}

/// A request and its answer.
#[derive(Clone, Copy)]
pub(crate) struct Answered<'a> {
    pub(crate) request: &'a Request,
    pub(crate) response: &'a Response,
}

/// An acknowledged claim or record that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) what: Thing,
    /// When the incident began that took it; `None` if none did.
    pub(crate) since: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Claim,
    Record,
}

/// Longer stories are cut.
const LINES: usize = 120;

/// Everything that happened to a key, in order.
#[must_use]
pub fn story(log: &Log, name: &Name) -> String {
    let subjects = Subject::all(log);
    let subject = subjects.iter().find(|subject| subject.name == name);
    subject.map(Subject::story).unwrap_or_default()
}

impl<'a> Subject<'a> {
    /// The keys of `log`, in order.
    pub(crate) fn all(log: &'a Log) -> Vec<Self> {
        let mut subjects: BTreeMap<&Name, Self> = BTreeMap::new();
        let mut records: BTreeMap<[u8; 32], &Name> = BTreeMap::new();
        for request in &log.requests {
            // Whoever shares a record with another is found out by another rule.
            records
                .entry(*request.record.as_bytes())
                .or_insert(&request.name);
            let subject = subjects
                .entry(&request.name)
                .or_insert_with(|| Self::new(&request.name, log));
            subject.requests.push(request);
        }
        for execution in &log.executions {
            let request = &log.requests[execution.request.0];
            if let Some(subject) = subjects.get_mut(&request.name) {
                subject.executions.push(execution);
            }
        }
        for response in &log.responses {
            let request = &log.requests[response.request.0];
            if let Some(subject) = subjects.get_mut(&request.name) {
                subject.answers.push(Answered { request, response });
            }
        }
        for call in &log.calls {
            let name = records.get(call.record.as_bytes());
            if let Some(subject) = name.and_then(|name| subjects.get_mut(name)) {
                subject.calls.push(call);
            }
        }
        subjects.into_values().collect()
    }

    fn new(name: &'a Name, log: &'a Log) -> Self {
        Self {
            name,
            log,
            requests: Vec::new(),
            executions: Vec::new(),
            answers: Vec::new(),
            calls: Vec::new(),
            lost: BTreeMap::new(),
        }
    }

    /// Whether what was under this fence fell to an incident that had begun by `at`.
    pub(crate) fn excused(&self, fence: u64, at: Moment) -> bool {
        let lost = self.lost.get(&fence);
        lost.is_some_and(|lost| lost.since.is_some_and(|since| since < at))
    }

    /// Claims that were answered, with what they showed.
    pub(crate) fn sightings(&self) -> impl Iterator<Item = (&'a Call, Moment, Sighting)> {
        self.calls.iter().filter_map(|call| match &call.ended {
            Some((at, Answer::Won(seen) | Answer::Held(seen))) => Some((*call, *at, *seen)),
            _ => None,
        })
    }

    pub(crate) fn violation(&self, rule: Rule, what: &str) -> Violation {
        Violation {
            rule,
            name: self.name.clone(),
            story: format!("  {what}\n{}", self.story()),
        }
    }

    fn story(&self) -> String {
        let mut lines = self.lines();
        lines.sort();
        let more = lines.len().saturating_sub(LINES);
        let mut story = String::new();
        for (_, line) in lines.iter().take(LINES) {
            let _ = writeln!(story, "    {line}");
        }
        if more > 0 {
            let _ = writeln!(story, "    and {more} more lines");
        }
        story
    }

    fn lines(&self) -> Vec<(u64, String)> {
        let mut lines = Vec::new();
        let mut tell = |at: Moment, line: String| {
            let millis = at.time.as_millis();
            lines.push((at.order, format!("{:>6} {millis:>6} ms  {line}", at.order)));
        };
        for request in &self.requests {
            let (id, asks) = (request.id, &request.fingerprint);
            tell(request.at, format!("{id} is sent: {asks:?}"));
        }
        for answered in &self.answers {
            let Answered { request, response } = answered;
            let (id, outcome) = (request.id, tell_outcome(response.outcome));
            let (status, digest) = (response.status, response.digest);
            tell(
                response.at,
                format!("{id} is answered: {outcome}, {status} {digest}"),
            );
        }
        for execution in &self.executions {
            let (id, fence, attempt) = (execution.request, execution.fence, execution.attempt);
            let begins = format!("  {id} executes as attempt {attempt} under fence {fence}");
            tell(execution.started, begins);
            if let Some((at, finish)) = execution.ended {
                let Finish { status, digest, .. } = finish;
                tell(at, format!("  {id} has executed: {status} {digest}"));
            }
        }
        for call in &self.calls {
            let (node, op) = (&call.node, tell_op(call.op));
            tell(call.began, format!("      {node} asks the store to {op}"));
            if let Some((at, answer)) = &call.ended {
                let began = call.began.order;
                let answer = tell_answer(answer);
                tell(*at, format!("      the store to {node}, {began}: {answer}"));
            }
        }
        for incident in &self.log.incidents {
            tell(incident.began, format!("--- {}", incident.what));
            if let Some(at) = incident.ended {
                tell(at, format!("--- over: {}", incident.what));
            }
        }
        lines
    }
}

impl Execution {
    /// Whether its record may have expired by `at`: kept for `lifetime` after it ended.
    pub(crate) fn may_have_expired(&self, lifetime: Duration, at: Moment) -> bool {
        let since = self.ended.map_or(self.started, |(ended, _)| ended);
        at.time >= since.time + lifetime
    }

    pub(crate) fn finish(&self) -> Option<Finish> {
        self.ended.map(|(_, finish)| finish)
    }
}

/// The execution that has given each body.
pub(crate) fn by_digest(log: &Log) -> BTreeMap<Digest, &Execution> {
    let ended = log
        .executions
        .iter()
        .filter_map(|execution| Some((execution.finish()?.digest, execution)));
    ended.collect()
}

fn tell_outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Executed { recorded: true } => "executed".to_owned(),
        Outcome::Executed { recorded: false } => "executed, not recorded".to_owned(),
        Outcome::Replayed => "replayed".to_owned(),
        Outcome::Refused(why) => format!("refused: {why:?}"),
        Outcome::ConnectionError => "not at all".to_owned(),
    }
}

fn tell_op(op: Op) -> String {
    match op {
        Op::Claim { lease } => format!("claim for {lease:?}"),
        Op::Renew { fence, extend } => format!("renew under {fence} for {extend:?}"),
        Op::Complete { fence } => format!("complete under {fence}"),
        Op::Release { fence } => format!("release under {fence}"),
    }
}

fn tell_answer(answer: &Answer) -> String {
    let seen = |seen: &Sighting| {
        let (fence, attempt, stage) = (seen.fence, seen.attempt, seen.stage);
        format!("fence {fence}, attempt {attempt}, {stage:?}")
    };
    match answer {
        Answer::Won(it) => format!("won: {}", seen(it)),
        Answer::Held(it) => format!("held: {}", seen(it)),
        Answer::Applied => "applied".to_owned(),
        Answer::Superseded => "superseded".to_owned(),
        Answer::Failed(why) => format!("failed: {why}"),
    }
}
