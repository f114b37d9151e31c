//! Sign-ins and codes: promises L1 to L4, and C1 to C5.

use portcullis_runtime::{Secret, Timestamp};
use portcullis_storage::{CodeError, FamilyId, LoginError, LoginState, NewLogin};

use super::{
    Checked,
    families::Owner,
    tally::{Op, Outcome},
    violated,
    world::{Model, Scene, World},
};
use crate::kit::{HOUR, MINUTE, code_request, identity, new_login};

#[derive(Default)]
pub(super) struct Logins {
    flows: Vec<Flow>,
    pub(super) codes: Vec<Code>,
}

/// What the model knows of a flow.
struct Flow {
    id: String,
    owner: Owner,
    approved: bool,
    ends_at: Timestamp,
    begun: bool,
    /// The states in which it may be.
    states: States,
    /// The two codes that somebody may try to have issued.
    secrets: [Secret; 2],
    issued: Option<usize>,
    may_be_issued: [bool; 2],
    /// The number of the code that was issued.
    code: Option<usize>,
}

/// A set of states.
#[derive(Clone, Copy, PartialEq, Eq)]
struct States(u8);

impl States {
    const fn of(state: LoginState) -> Self {
        Self(1 << state as u8)
    }

    const fn with(self, state: LoginState) -> Self {
        Self(self.0 | Self::of(state).0)
    }

    const fn has(self, state: LoginState) -> bool {
        self.0 & Self::of(state).0 != 0
    }
}

/// What the model knows of a code.
pub(super) struct Code {
    secret: Secret,
    pub(super) owner: Owner,
    expires_at: Timestamp,
    pub(super) family: Option<FamilyId>,
    redeemed: usize,
    /// The calls that may have redeemed it.
    doubts: Vec<u64>,
    pub(super) replayed: bool,
    /// When its family's tombstone may have been written first.
    pub(super) tombstone_at: Option<Timestamp>,
    /// Whether its family's creation has begun.
    pub(super) creating: bool,
    /// The family's number.
    pub(super) created: Option<usize>,
}

fn login_of(owner: Owner, approved: bool) -> NewLogin {
    let identity = portcullis_storage::Identity { user_id: owner.user_id().to_owned(), ..identity() };
    NewLogin { client_id: owner.client_id().to_owned(), identity, ..new_login(approved) }
}

impl Model {
    fn flow(&mut self, number: usize) -> &mut Flow {
        &mut self.logins.flows[number]
    }

    fn begun(&mut self, number: usize, scene: &Scene, answer: &Result<(), LoginError>) -> Checked {
        let flow = &mut self.logins.flows[number];
        match answer {
            Ok(()) => {
                // Of a process that was suspended for longer than the record is kept, nothing is promised.
                let kept = scene.now < flow.ends_at + HOUR;
                violated(flow.begun && kept, || format!("L1: flow {number} was begun twice"))?;
                violated(scene.began >= flow.ends_at, || format!("L2: flow {number} was begun after its end"))?;
                flow.begun = true;
                Ok(())
            }
            Err(LoginError::Expired) => {
                violated(scene.began < flow.ends_at, || format!("L2: flow {number} ended before its end"))
            }
            Err(LoginError::Store(_)) => {
                self.tally.outcome(Outcome::Unknown);
                Ok(())
            }
            Err(LoginError::Spent) => Ok(()),
            Err(error) => Err(format!("L3: flow {number} cannot begin: {error}")),
        }
    }

    /// What every later step of a flow may be refused for.
    fn step_refused(&mut self, number: usize, scene: &Scene, error: &LoginError) -> Checked {
        let flow = &self.logins.flows[number];
        match error {
            LoginError::WrongState { is } => {
                violated(!flow.states.has(*is), || format!("L3: flow {number} is {is:?}, and nobody did it"))
            }
            LoginError::Expired => {
                let code_over = flow.code.is_some_and(|code| scene.now >= self.logins.codes[code].expires_at);
                let over = scene.now >= flow.ends_at || code_over || flow.may_be_issued.contains(&true);
                violated(!over, || format!("L2: flow {number} ended before its end"))
            }
            LoginError::Unknown => {
                let kept = scene.now < flow.ends_at + HOUR;
                violated(flow.begun && kept, || format!("L2: flow {number} was begun and is forgotten"))
            }
            LoginError::Store(_) => {
                self.tally.outcome(Outcome::Unknown);
                Ok(())
            }
            LoginError::Spent => Err(format!("L3: a later step of flow {number} is refused: {error}")),
        }
    }

    fn issued(
        &mut self,
        (number, which): (usize, usize),
        from: LoginState,
        scene: &Scene,
        answer: Result<portcullis_storage::IssuedCode, LoginError>,
    ) -> Checked {
        let issued = match answer {
            Ok(issued) => issued,
            Err(error) => {
                self.may_be_issued(number, which, &error);
                return self.step_refused(number, scene, &error);
            }
        };
        let flow = &mut self.logins.flows[number];
        violated(scene.began >= flow.ends_at, || format!("L2: flow {number} gave a code after its end"))?;
        violated(flow.issued.is_some_and(|before| before != which), || format!("L4: flow {number} gave two codes"))?;
        let could = flow.states.has(from) || flow.states.has(LoginState::CodeIssued);
        violated(!could, || format!("L3: flow {number} gave a code out of order"))?;
        violated(issued.again && flow.issued.is_none() && !flow.may_be_issued[which], || {
            format!("L4: a code of flow {number} is issued again, and nobody issued it before")
        })?;
        flow.states = States::of(LoginState::CodeIssued);
        flow.issued = Some(which);
        if let Some(code) = flow.code {
            let first = self.logins.codes[code].expires_at;
            return violated(issued.expires_at != first, || format!("L4: code {code} has got another end"));
        }
        flow.code = Some(self.logins.codes.len());
        self.logins.codes.push(Code {
            secret: flow.secrets[which].clone(),
            owner: flow.owner,
            expires_at: issued.expires_at,
            family: None,
            redeemed: 0,
            doubts: Vec::new(),
            replayed: false,
            tombstone_at: None,
            creating: false,
            created: None,
        });
        Ok(())
    }

    fn may_be_issued(&mut self, number: usize, which: usize, error: &LoginError) {
        if matches!(error, LoginError::Store(_) | LoginError::Expired) {
            self.code_in_doubt(number, which);
        }
    }

    fn code_in_doubt(&mut self, number: usize, which: usize) {
        let flow = self.flow(number);
        flow.may_be_issued[which] = true;
        flow.states = flow.states.with(LoginState::CodeIssued);
    }

    fn opened(
        &mut self,
        number: usize,
        scene: &Scene,
        answer: Result<portcullis_storage::OpenCode, CodeError>,
    ) -> Checked {
        let code = &self.logins.codes[number];
        match answer {
            Ok(open) => {
                violated(code.redeemed > 0, || format!("C1: code {number} was redeemed and opens"))?;
                violated(scene.now >= code.expires_at, || format!("C5: code {number} opens after its end"))?;
                self.handles[scene.replica].codes.push((number, open));
            }
            Err(CodeError::Replayed) => {
                violated(code.redeemed == 0 && code.doubts.is_empty(), || {
                    format!("C4: code {number} is called replayed and was never redeemed")
                })?;
                self.replayed(number, scene);
            }
            Err(CodeError::Store(_)) => self.replay_in_doubt(number, scene),
            Err(CodeError::Expired) => {
                violated(scene.now < code.expires_at, || format!("C5: code {number} ended early"))?;
            }
            Err(CodeError::Invalid) => {
                violated(scene.now < code.expires_at + HOUR, || format!("C5: code {number} is forgotten"))?;
            }
            Err(error) => return Err(format!("C3: code {number} is refused: {error}")),
        }
        Ok(())
    }

    fn redeemed(
        &mut self,
        number: usize,
        scene: &Scene,
        answer: Result<portcullis_storage::RedeemedCode, CodeError>,
    ) -> Checked {
        let code = &mut self.logins.codes[number];
        if !matches!(answer, Err(CodeError::Store(_))) {
            code.doubts.retain(|call| *call != scene.call);
        }
        match answer {
            Ok(redeemed) => {
                self.tally.outcome(Outcome::Redeemed);
                code.redeemed += 1;
                violated(code.redeemed > 1, || format!("C1: code {number} was redeemed twice"))?;
                violated(scene.began >= code.expires_at, || format!("C5: code {number} was redeemed after its end"))?;
                let right = redeemed.grant.client_id == code.owner.client_id()
                    && redeemed.grant.identity.user_id == code.owner.user_id();
                violated(!right, || format!("C1: code {number} gave what another code stands for"))?;
                code.family = Some(redeemed.family);
            }
            Err(CodeError::Replayed) => {
                // Who was suspended for longer than the record is kept finds none.
                let kept = scene.now < code.expires_at + HOUR;
                violated(code.redeemed == 0 && code.doubts.is_empty() && kept, || {
                    format!("C4: the only redemption of code {number} is called a replay")
                })?;
                self.replayed(number, scene);
            }
            Err(CodeError::Store(_)) => {
                self.redemption_in_doubt(number, scene);
                self.tally.outcome(Outcome::Unknown);
                self.replay_in_doubt(number, scene);
            }
            Err(CodeError::Expired) => {
                violated(scene.began < code.expires_at, || format!("C5: code {number} ended early"))?;
            }
            Err(error) => return Err(format!("C3: code {number} is refused: {error}")),
        }
        Ok(())
    }

    fn redemption_in_doubt(&mut self, number: usize, scene: &Scene) {
        let doubts = &mut self.logins.codes[number].doubts;
        if !doubts.contains(&scene.call) {
            doubts.push(scene.call);
        }
    }

    /// A replay was answered as one: what the code gave has ended.
    fn replayed(&mut self, number: usize, scene: &Scene) {
        self.tally.outcome(Outcome::Replayed);
        self.replay_in_doubt(number, scene);
        let code = &mut self.logins.codes[number];
        code.replayed = true;
        if let Some(family) = code.created {
            self.families.known[family].ended = true;
        }
    }

    /// A call may have met a replay.
    fn replay_in_doubt(&mut self, number: usize, scene: &Scene) {
        let code = &mut self.logins.codes[number];
        code.tombstone_at = Some(code.tombstone_at.map_or(scene.began, |at| at.min(scene.began)));
        if let Some(family) = code.created {
            self.families.known[family].may_have_ended = true;
        }
    }
}

impl World {
    pub(super) fn begin(&mut self) -> Checked {
        let replica = self.some_replica();
        let store = self.store(replica);
        let number = self.model.logins.flows.len();
        let owner = self.some_owner();
        let approved = self.dice.below(5) > 0;
        let state = if approved { LoginState::Approved } else { LoginState::Authenticated };
        let flow = Flow {
            id: format!("flow {number}"),
            owner,
            approved,
            ends_at: self.now(replica) + 15 * MINUTE,
            begun: false,
            states: States::of(state),
            secrets: [store.codes().new_code(), store.codes().new_code()],
            issued: None,
            may_be_issued: [false; 2],
            code: None,
        };
        let (id, end) = (flow.id.clone(), flow.ends_at);
        self.model.logins.flows.push(flow);
        self.ask(
            (Op::Begin, replica, || format!("flow {number}, approved: {approved}")),
            |store| async move { store.logins().begin(&id, login_of(owner, approved), end).await.map(drop) },
            |_, _| {},
            move |model, scene, answer| {
                // Others may have been faster only while it waited.
                violated(answer == Err(LoginError::Spent) && !scene.suspended, || {
                    format!("L1: the fresh flow {number} is called spent")
                })?;
                model.begun(number, scene, &answer)
            },
        )
    }

    /// Mostly one that may go on; in vain when there is none.
    fn some_flow(&mut self, may_go_on: impl Fn(&Flow) -> bool) -> Option<usize> {
        let flows = &self.model.logins.flows;
        let good: Vec<usize> = (0..flows.len()).filter(|number| may_go_on(&flows[*number])).collect();
        if flows.is_empty() {
            return None;
        }
        let count = flows.len();
        Some(match good.len() {
            some if some > 0 && self.dice.below(4) > 0 => good[self.dice.below(some)],
            _ => self.dice.below(count),
        })
    }

    pub(super) fn begin_again(&mut self) -> Checked {
        let Some(number) = self.some_flow(|flow| flow.begun) else { return Ok(()) };
        let replica = self.some_replica();
        let Flow { id, owner, approved, ends_at, .. } = self.model.flow(number);
        let (id, owner, approved, end) = (id.clone(), *owner, *approved, *ends_at);
        self.ask(
            (Op::BeginAgain, replica, || format!("flow {number}")),
            move |store| async move { store.logins().begin(&id, login_of(owner, approved), end).await.map(drop) },
            |_, _| {},
            move |model, scene, answer| model.begun(number, scene, &answer),
        )
    }

    pub(super) fn deny(&mut self) -> Checked {
        let Some(number) = self.some_flow(|flow| flow.states.has(LoginState::Authenticated)) else { return Ok(()) };
        let replica = self.some_replica();
        let id = self.model.flow(number).id.clone();
        self.ask(
            (Op::Deny, replica, || format!("flow {number}")),
            move |store| async move { store.logins().deny(&id).await.map(drop) },
            move |model, _| {
                let flow = model.flow(number);
                flow.states = flow.states.with(LoginState::Denied);
            },
            move |model, scene, answer| {
                let flow = model.flow(number);
                match answer {
                    Ok(()) => {
                        violated(scene.began >= flow.ends_at, || format!("L2: flow {number} went on after its end"))?;
                        violated(!flow.states.has(LoginState::Authenticated), || {
                            format!("L3: flow {number} went back to be denied")
                        })?;
                        flow.states = States::of(LoginState::Denied);
                        Ok(())
                    }
                    Err(error) => {
                        if matches!(error, LoginError::Store(_)) {
                            flow.states = flow.states.with(LoginState::Denied);
                        }
                        model.step_refused(number, scene, &error)
                    }
                }
            },
        )
    }

    /// Consent, which issues the first of the flow's codes.
    pub(super) fn approve(&mut self) -> Checked {
        let Some(number) = self.some_flow(|flow| flow.states.has(LoginState::Authenticated)) else { return Ok(()) };
        let replica = self.some_replica();
        let flow = self.model.flow(number);
        let (id, secret) = (flow.id.clone(), flow.secrets[0].clone());
        self.ask(
            (Op::Approve, replica, || format!("flow {number}")),
            move |store| async move { store.logins().approve(&id, &secret, code_request(), 10 * MINUTE).await },
            move |model, _| model.code_in_doubt(number, 0),
            move |model, scene, answer| model.issued((number, 0), LoginState::Authenticated, scene, answer),
        )
    }

    pub(super) fn issue(&mut self, op: Op) -> Checked {
        let next = |flow: &Flow| flow.states.has(LoginState::Approved) || flow.issued.is_some();
        let Some(number) = self.some_flow(|flow| next(flow) && (op == Op::IssueAgain) == flow.issued.is_some()) else {
            return Ok(());
        };
        let flow = self.model.flow(number);
        let which = match (op, flow.issued) {
            // The same code again, or another one.
            (Op::IssueAgain, Some(before)) => (before + usize::from(self.dice.below(2) == 0)) % 2,
            (Op::IssueAgain, None) => self.dice.below(2),
            _ if flow.issued.is_some() => return Ok(()),
            _ => 0,
        };
        let replica = self.some_replica();
        let flow = self.model.flow(number);
        let (id, secret) = (flow.id.clone(), flow.secrets[which].clone());
        self.ask(
            (op, replica, || format!("flow {number}, code {which}")),
            move |store| async move { store.logins().issue_code(&id, &secret, code_request(), 10 * MINUTE).await },
            move |model, _| model.code_in_doubt(number, which),
            move |model, scene, answer| model.issued((number, which), LoginState::Approved, scene, answer),
        )
    }

    pub(super) fn open_code(&mut self) -> Checked {
        let count = self.model.logins.codes.len();
        if count == 0 {
            return Ok(());
        }
        // Mostly the newest, which is good; the others are replays or too old.
        let number = if self.dice.below(3) > 0 { count - 1 } else { self.dice.below(count) };
        let replica = self.some_replica();
        let code = &self.model.logins.codes[number];
        let (secret, client) = (code.secret.clone(), code.owner.client_id());
        self.ask(
            (Op::OpenCode, replica, || format!("code {number}")),
            move |store| async move { store.codes().open(secret.expose(), client).await },
            move |model, scene| model.replay_in_doubt(number, scene),
            move |model, scene, answer| model.opened(number, scene, answer),
        )
    }

    pub(super) fn redeem(&mut self) -> Checked {
        let Some(replica) = self.replica_with(|handles| !handles.codes.is_empty()) else { return Ok(()) };
        let open = &mut self.model.handles[replica].codes;
        let (number, open) = open.swap_remove(self.dice.below(open.len()));
        self.ask(
            (Op::Redeem, replica, || format!("code {number}")),
            move |store| async move { store.codes().redeem(open).await },
            move |model, scene| {
                model.redemption_in_doubt(number, scene);
                model.replay_in_doubt(number, scene);
            },
            move |model, scene, answer| model.redeemed(number, scene, answer),
        )
    }

    /// Everything that gave a code has given it, and a code that was redeemed is redeemed.
    pub(super) fn logins_at_rest(&mut self) -> Checked {
        for number in 0..self.model.logins.codes.len() {
            if self.model.logins.codes[number].redeemed == 0 {
                continue;
            }
            let replica = self.some_replica();
            let code = &self.model.logins.codes[number];
            let (secret, client) = (code.secret.clone(), code.owner.client_id());
            self.ask(
                (Op::OpenCode, replica, || format!("code {number}, at rest")),
                move |store| async move { store.codes().open(secret.expose(), client).await },
                |_, _| {},
                move |model, scene, answer| {
                    let known = answer.as_ref().is_err_and(|error| matches!(error, CodeError::Store(_)));
                    violated(known, || format!("C1: code {number} is redeemed and the store refuses"))?;
                    model.opened(number, scene, answer)
                },
            )?;
        }
        Ok(())
    }
}
