//! `/admin`: for people with a login and a role.

use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use garde::Validate;
use onlyonce_pipeline::blocklist::{Blocklist, Draft, Entry, EntryId};
use onlyonce_pipeline::context::Identity;
use onlyonce_pipeline::envelope::Envelope;
use onlyonce_pipeline::filter::{Filter, FilterContext, Filtered, Validated};
use onlyonce_pipeline::read_only::ReadOnly;
use onlyonce_pipeline::{Code, Error, Text, Wrap as _};
use serde::{Deserialize, Serialize};

use crate::app::{App, Logins, Members};

/// Who may do what: the super role everything, editors what stands here.
pub(crate) const POLICY: &str = "
    p, editor, /admin/members, (GET)|(POST)
    p, editor, /admin/demo/*,  GET
";

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/login", post(login))
        .route("/members", get(list).post(add))
        .route("/demo/message", get(rewritten_message))
        .route("/demo/code", get(rewritten_code))
        .route("/demo/panic", get(panics))
        .route("/blocklist", post(block))
        .route("/blocklist/{id}", delete(unblock))
        .route("/read-only", post(read_only))
}

#[derive(Deserialize, Validate)]
struct Credentials {
    #[garde(length(min = 1))]
    name: String,
    #[garde(length(min = 1))]
    password: String,
}

#[derive(Serialize)]
pub(crate) struct Token {
    pub(crate) token: String,
    /// Seconds.
    pub(crate) expires: u64,
}

/// A wrong name and a wrong password are told alike.
async fn login(
    State(logins): State<Logins>,
    Validated(given): Validated<Credentials>,
) -> Result<Envelope<Token>, Error> {
    let role = match (given.name.as_str(), given.password.as_str()) {
        ("boss", "open-sesame") => "super",
        ("eve", "open-sesame") => "editor",
        _ => {
            let text = Text::both("Name or password is wrong", "用户名或密码错误");
            return Err(Error::new(Code::NOT_AUTHORIZED, text));
        }
    };
    let identity = Identity::new(given.name, "admin").with_role(role);
    let issued = logins.admin.login(&identity).await?;
    Ok(Envelope::new(Token {
        token: issued.token,
        expires: issued.expires_in.as_secs(),
    }))
}

#[derive(Clone, Deserialize, Serialize, Validate)]
pub(crate) struct Member {
    #[garde(length(chars, min = 2, max = 40))]
    name: String,
    #[garde(range(min = 18, max = 150))]
    age: u32,
}

/// What the rules can't say: the name is trimmed, and some names are not to be had.
impl<S: Sync> Filter<S> for Member {
    async fn filter(&mut self, _: FilterContext<'_, S>) -> Result<(), Error> {
        self.name = self.name.trim().to_owned();
        if self.name == "admin" {
            let text = Text::both("This name is taken", "该名称已被占用");
            return Err(Error::new(Code::BUSINESS_VALIDATION_FAILED, text));
        }
        Ok(())
    }
}

async fn list(State(members): State<Members>) -> Envelope<Vec<Member>> {
    let members = members
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    Envelope::new(members.clone())
}

#[derive(Serialize)]
struct Added {
    id: usize,
    by: String,
}

/// With an idempotency key, a retry adds nothing and gets this answer again.
async fn add(
    State(members): State<Members>,
    Extension(caller): Extension<std::sync::Arc<Identity>>,
    Filtered(member): Filtered<Member>,
) -> Envelope<Added> {
    let mut members = members
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    members.push(member);
    Envelope::new(Added {
        id: members.len(),
        by: caller.id.clone(),
    })
}

/// What the database says is for the log; clients get a message that was made for them.
async fn rewritten_message() -> Result<Envelope<()>, Error> {
    let inserted = insert();
    inserted.wrap("用户创建失败，请稍后重试！~")?;
    Ok(Envelope::empty())
}

fn insert() -> Result<(), Error> {
    Err(Error::plain("这是一个sql执行错误"))
}

/// An application's own code.
const NOT_CREATED: Code = Code::new(30001);

async fn rewritten_code() -> Result<Envelope<()>, Error> {
    Err(Error::new(NOT_CREATED, "用户创建失败，请稍后重试！~"))
}

async fn panics() -> Envelope<()> {
    panic!("the database's password is 1234");
}

#[derive(Deserialize, Validate)]
struct Block {
    #[garde(length(min = 1))]
    ip: String,
    #[garde(skip)]
    #[serde(default)]
    remark: String,
}

async fn block(
    State(blocklist): State<Blocklist>,
    Validated(block): Validated<Block>,
) -> Result<Envelope<Entry>, Error> {
    let draft = Draft::new(block.ip).with_remark(block.remark);
    draft
        .check()
        .map_err(|error| Error::new(Code::INVALID_PARAMETER, error.to_string()))?;
    Ok(Envelope::new(blocklist.add(&draft).await?))
}

async fn unblock(
    State(blocklist): State<Blocklist>,
    Path(id): Path<u64>,
) -> Result<Envelope<()>, Error> {
    if blocklist.remove(EntryId(id)).await? {
        Ok(Envelope::empty())
    } else {
        Err(Error::of(Code::NOT_FOUND))
    }
}

#[derive(Deserialize, Validate)]
struct Switch {
    #[garde(skip)]
    on: bool,
}

async fn read_only(
    State(switch): State<ReadOnly>,
    Validated(Switch { on }): Validated<Switch>,
) -> Envelope<bool> {
    switch.set(on);
    Envelope::new(on)
}
