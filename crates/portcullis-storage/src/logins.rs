//! Sign-ins that have succeeded (design decision 1).
//!
//! Before anything is proved, an authorization request lives in a sealed cookie. The first proof inserts one record
//! under the flow's id, and from then on that record decides: authenticated → approved → code issued, or denied. A flow
//! id is spent by the insert; the record outlives the flow's own expiry, so that a replayed cookie meets it, and what is
//! older than the flow's expiry is refused by the clock.
//!
//! Issuing a code changes this record first; the code's own record is derived from it, and written again by a repeated
//! call with the same code that finds it missing.

use std::time::Duration;

use portcullis_runtime::{Secret, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    codes::{CodeDoc, CodeGrant, Pkce, code_id},
    document::{Indexed, Inserted, Stored, Swapped, decode},
    error::StoreError,
    families::FamilyId,
    identity::Identity,
    inspect::{Mentions, same_expiry},
    kernel::{Kind, Record},
    seal::{Blob, Place, SecretBytes},
    stamp,
    store::Store,
};

/// How long a login record outlives its flow: more than clocks differ and cookies are delayed.
const OUTLIVES_FLOW: Duration = Duration::from_secs(60 * 60);
/// How often a transition is decided anew after losing a race.
const RACES: usize = 16;

/// A sign-in that a connector has just vouched for.
#[derive(Clone, Debug)]
pub struct NewLogin {
    /// The client that asked.
    pub client_id: String,
    /// The connector that vouches.
    pub connector_id: String,
    /// What the connector wants to see again at a refresh.
    pub connector_data: Option<SecretBytes>,
    /// Who signed in.
    pub identity: Identity,
    /// When they proved it.
    pub auth_time: Timestamp,
    /// Whether consent is given already, because the configuration skips the question.
    pub approved: bool,
}

/// A sign-in under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The flow's id.
    pub flow: String,
    /// The client that asked.
    pub client_id: String,
    /// The connector that vouched.
    pub connector_id: String,
    /// Who signed in.
    pub identity: Identity,
    /// When they proved it.
    pub auth_time: Timestamp,
    /// How far the flow has come.
    pub state: LoginState,
    /// When the flow ends, finished or not.
    pub expires_at: Timestamp,
}

/// How far a sign-in has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginState {
    /// The person is known; consent is missing.
    Authenticated,
    /// Consent is given.
    Approved,
    /// A code was issued. Final.
    CodeIssued,
    /// The flow ended without a code: tokens were given directly. Final.
    Completed,
    /// The person refused. Final.
    Denied,
}

/// What the authorization request asked for, as far as the code has to remember it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CodeRequest {
    /// The redirect URI, to be compared byte by byte at redemption.
    pub redirect_uri: String,
    /// The scopes that were granted.
    pub scopes: Vec<String>,
    /// The request's `nonce`; empty when it had none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// The PKCE challenge, when there was one (RFC 7636).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pkce: Option<Pkce>,
}

/// A code has been issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuedCode {
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether an earlier call had issued the same code already.
    pub again: bool,
}

/// Why a sign-in cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The browser: the flow has been used for a sign-in before.
    #[error("this sign-in has been used already")]
    Spent,
    /// The browser: nobody signed in under this flow.
    #[error("there is no such sign-in")]
    Unknown,
    /// The browser: the flow took too long.
    #[error("the sign-in took too long")]
    Expired,
    /// The browser: the step does not follow from where the flow is.
    #[error("the sign-in is past this step: {is:?}")]
    WrongState {
        /// Where the flow is.
        is: LoginState,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
struct LoginDoc {
    client_id: String,
    connector_id: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    connector_data: Option<Blob>,
    identity: Identity,
    #[serde(with = "stamp")]
    auth_time: Timestamp,
    #[serde(with = "stamp")]
    expires_at: Timestamp,
    step: Step,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Authenticated,
    Approved,
    CodeIssued(IssuedDoc),
    Completed,
    Denied,
}

/// Everything from which the code's record can be written again.
#[derive(Clone, Serialize, Deserialize)]
struct IssuedDoc {
    code: String,
    family: FamilyId,
    #[serde(with = "stamp")]
    expires_at: Timestamp,
    request: CodeRequest,
}

impl Step {
    const fn state(&self) -> LoginState {
        match self {
            Self::Authenticated => LoginState::Authenticated,
            Self::Approved => LoginState::Approved,
            Self::CodeIssued(_) => LoginState::CodeIssued,
            Self::Completed => LoginState::Completed,
            Self::Denied => LoginState::Denied,
        }
    }
}

impl LoginDoc {
    fn view(self, flow: &str) -> Login {
        Login {
            flow: flow.to_owned(),
            state: self.step.state(),
            client_id: self.client_id,
            connector_id: self.connector_id,
            identity: self.identity,
            auth_time: self.auth_time,
            expires_at: self.expires_at,
        }
    }

    fn indexed(&self) -> Indexed {
        Indexed::until(Some(self.expires_at + OUTLIVES_FLOW))
    }
}

/// The facade of sign-ins.
#[derive(Clone, Copy)]
pub struct Logins<'a> {
    store: &'a Store,
}

impl<'a> Logins<'a> {
    pub(crate) const fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Spends a flow id on a sign-in that has just succeeded. `flow_expires_at` is the end of the flow as its sealed
    /// cookie says it.
    ///
    /// # Errors
    /// [`LoginError::Spent`], [`LoginError::Expired`], [`LoginError::Store`].
    pub async fn begin(&self, flow: &str, new: NewLogin, flow_expires_at: Timestamp) -> Result<Login, LoginError> {
        if self.store.now() >= flow_expires_at {
            return Err(LoginError::Expired);
        }
        let data = new.connector_data.map(|data| self.store.seal(data_place(flow), data.expose())).transpose()?;
        let doc = LoginDoc {
            client_id: new.client_id,
            connector_id: new.connector_id,
            connector_data: data,
            identity: new.identity,
            auth_time: stamp::truncate(new.auth_time),
            expires_at: stamp::truncate(flow_expires_at),
            step: if new.approved { Step::Approved } else { Step::Authenticated },
        };
        match self.store.insert(Kind::Login, flow, &doc, doc.indexed()).await? {
            Inserted::Done(_) => Ok(doc.view(flow)),
            Inserted::Exists => Err(LoginError::Spent),
        }
    }

    /// Reads a sign-in.
    ///
    /// # Errors
    /// [`LoginError::Unknown`], [`LoginError::Expired`], [`LoginError::Store`].
    pub async fn get(&self, flow: &str) -> Result<Login, LoginError> {
        Ok(self.current(flow).await?.value.view(flow))
    }

    /// Records consent and issues `code` at once: authenticated → code issued. Repeated as [`Logins::issue_code`].
    ///
    /// # Errors
    /// [`LoginError::WrongState`] when the state is another one or another code was issued, and those of
    /// [`Logins::get`].
    pub async fn approve(
        &self,
        flow: &str,
        code: &Secret,
        request: CodeRequest,
        lifetime: Duration,
    ) -> Result<IssuedCode, LoginError> {
        self.issue(flow, LoginState::Authenticated, code, request, lifetime).await
    }

    /// Records a refusal: authenticated → denied.
    ///
    /// # Errors
    /// [`LoginError::WrongState`] unless the state is [`LoginState::Authenticated`], and those of [`Logins::get`].
    pub async fn deny(&self, flow: &str) -> Result<Login, LoginError> {
        self.step(flow, LoginState::Authenticated, || Step::Denied).await
    }

    /// Ends a flow that gives tokens without a code: approved → completed.
    ///
    /// # Errors
    /// [`LoginError::WrongState`] unless the state is [`LoginState::Approved`], and those of [`Logins::get`].
    pub async fn complete(&self, flow: &str) -> Result<Login, LoginError> {
        self.step(flow, LoginState::Approved, || Step::Completed).await
    }

    /// Issues `code`: approved → code issued. A repeated call with the same code succeeds and writes the code's record
    /// if it is missing; so a provider that derives the code from a secret in the flow's cookie survives a reload.
    ///
    /// # Errors
    /// [`LoginError::WrongState`] when the state is another one or another code was issued, and those of
    /// [`Logins::get`].
    pub async fn issue_code(
        &self,
        flow: &str,
        code: &Secret,
        request: CodeRequest,
        lifetime: Duration,
    ) -> Result<IssuedCode, LoginError> {
        self.issue(flow, LoginState::Approved, code, request, lifetime).await
    }

    async fn issue(
        &self,
        flow: &str,
        from: LoginState,
        code: &Secret,
        request: CodeRequest,
        lifetime: Duration,
    ) -> Result<IssuedCode, LoginError> {
        let id = code_id(code.expose());
        for _ in 0..RACES {
            let Stored { version, value: mut doc, .. } = self.current(flow).await?;
            let (issued, again) = match doc.step {
                Step::CodeIssued(issued) if issued.code == id => (issued, true),
                step if step.state() == from => {
                    let issued = IssuedDoc {
                        code: id.clone(),
                        family: self.store.families().new_id(),
                        expires_at: stamp::truncate(self.store.now() + lifetime),
                        request: request.clone(),
                    };
                    (issued, false)
                }
                step => return Err(LoginError::WrongState { is: step.state() }),
            };
            doc.step = Step::CodeIssued(issued.clone());
            if !again {
                let indexed = doc.indexed();
                if self.store.swap(Kind::Login, flow, version, &doc, indexed).await? == Swapped::Lost {
                    continue;
                }
            }
            self.write_code(flow, doc, &issued).await?;
            return Ok(IssuedCode { expires_at: issued.expires_at, again });
        }
        Err(StoreError::Contended { kind: Kind::Login }.into())
    }

    /// Writes the code's record, which follows from the login's. Never after the code has expired: its record may have
    /// been redeemed and collected by then.
    async fn write_code(&self, flow: &str, login: LoginDoc, issued: &IssuedDoc) -> Result<(), LoginError> {
        if self.store.now() >= issued.expires_at {
            return Err(LoginError::Expired);
        }
        let data = login.connector_data.map(|blob| self.store.unseal(data_place(flow), &blob)).transpose()?;
        let IssuedDoc { code, family, expires_at, request } = issued.clone();
        let grant = CodeGrant {
            client_id: login.client_id,
            redirect_uri: request.redirect_uri,
            scopes: request.scopes,
            nonce: request.nonce,
            pkce: request.pkce,
            connector_id: login.connector_id,
            identity: login.identity,
            auth_time: login.auth_time,
        };
        let doc = CodeDoc::open(self.store, &code, grant, data.as_ref(), family, expires_at)?;
        // A record that exists is this one, or what became of it.
        self.store.insert(Kind::Code, &code, &doc, doc.indexed()).await?;
        Ok(())
    }

    async fn step(&self, flow: &str, from: LoginState, to: impl Fn() -> Step) -> Result<Login, LoginError> {
        for _ in 0..RACES {
            let Stored { version, value: mut doc, .. } = self.current(flow).await?;
            if doc.step.state() != from {
                return Err(LoginError::WrongState { is: doc.step.state() });
            }
            doc.step = to();
            let indexed = doc.indexed();
            if let Swapped::Done(_) = self.store.swap(Kind::Login, flow, version, &doc, indexed).await? {
                return Ok(doc.view(flow));
            }
        }
        Err(StoreError::Contended { kind: Kind::Login }.into())
    }

    async fn current(&self, flow: &str) -> Result<Stored<LoginDoc>, LoginError> {
        let stored = self.store.read::<LoginDoc>(Kind::Login, flow).await?.ok_or(LoginError::Unknown)?;
        if self.store.now() >= stored.value.expires_at {
            return Err(LoginError::Expired);
        }
        Ok(stored)
    }
}

/// For [`Store::check`].
pub(crate) fn inspect(store: &Store, record: &Record) -> Result<Mentions, StoreError> {
    let doc = decode::<LoginDoc>(Kind::Login, record)?.value;
    if let Some(blob) = &doc.connector_data {
        store.unseal(data_place(&record.id), blob)?;
    }
    same_expiry(Kind::Login, record, doc.indexed())?;
    Ok(Mentions::default())
}

const fn data_place(flow: &str) -> Place<'_> {
    Place { kind: Kind::Login, id: flow, field: "connector_data" }
}
