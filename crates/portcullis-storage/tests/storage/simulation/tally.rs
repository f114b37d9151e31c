//! How often things happened: a simulation in which nothing happens finds nothing.

use std::fmt;

use portcullis_storage::conformance::Fault;

/// What a history is made of. Every call of a facade is one operation, whatever it costs the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Begin,
    BeginAgain,
    Approve,
    Deny,
    Issue,
    IssueAgain,
    OpenCode,
    Redeem,
    Create,
    CreateOneTooMany,
    Refresh,
    Retry,
    Reuse,
    Foreign,
    Advance,
    RevokeToken,
    RevokeUser,
    RevokeClient,
    ListFamilies,
    LoadKeys,
    FirstKeys,
    RotateKeys,
    SealingKeys,
    Fail,
    Flush,
    Count,
    Clear,
    UpdateClient,
    ReadClient,
    KeepRequest,
    FindRequest,
    ForgetRequest,
    Collect,
    Contend,
    Release,
    Tend,
    Sweep,
    Rekey,
}

impl Op {
    pub(super) const ALL: [Self; 38] = [
        Self::Begin,
        Self::BeginAgain,
        Self::Approve,
        Self::Deny,
        Self::Issue,
        Self::IssueAgain,
        Self::OpenCode,
        Self::Redeem,
        Self::Create,
        Self::CreateOneTooMany,
        Self::Refresh,
        Self::Retry,
        Self::Reuse,
        Self::Foreign,
        Self::Advance,
        Self::RevokeToken,
        Self::RevokeUser,
        Self::RevokeClient,
        Self::ListFamilies,
        Self::LoadKeys,
        Self::FirstKeys,
        Self::RotateKeys,
        Self::SealingKeys,
        Self::Fail,
        Self::Flush,
        Self::Count,
        Self::Clear,
        Self::UpdateClient,
        Self::ReadClient,
        Self::KeepRequest,
        Self::FindRequest,
        Self::ForgetRequest,
        Self::Collect,
        Self::Contend,
        Self::Release,
        Self::Tend,
        Self::Sweep,
        Self::Rekey,
    ];

    /// How often it is chosen, among all. What needs something that is not there is chosen in vain.
    pub(super) const fn weight(self) -> u32 {
        match self {
            // These need what others gave, and are chosen in vain most of the time.
            Self::Redeem | Self::Create | Self::Advance => 700,
            Self::RotateKeys => 260,
            Self::OpenCode | Self::CreateOneTooMany => 160,
            Self::Issue | Self::Release => 110,
            Self::Retry | Self::Begin => 80,
            Self::Refresh | Self::Reuse | Self::FindRequest | Self::ForgetRequest | Self::Contend => 60,
            Self::Approve | Self::SealingKeys | Self::Fail => 40,
            Self::Count | Self::LoadKeys | Self::Collect => 30,
            // Chosen by themselves, where secrets are sealed.
            Self::Tend | Self::Sweep | Self::Rekey => 0,
            _ => 22,
        }
    }
}

/// What happens to the network, the replicas and the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A request that never arrived.
    LostRequest,
    /// A reply that never arrived.
    LostReply,
    /// A request that arrived after others.
    LateRequest,
    /// A request that arrived twice.
    Duplicated,
    /// The store said that it did nothing.
    Refused,
    /// A write that was lost in all its repetitions.
    Blackout,
    /// A call that was suspended between two of its steps.
    Suspended,
    /// A replica that ended without warning.
    Restarted,
    /// A replica's clock that was set.
    ClockSet,
    /// Time that passed.
    Passed,
}

impl Event {
    pub(super) const ALL: [Self; 10] = [
        Self::LostRequest,
        Self::LostReply,
        Self::LateRequest,
        Self::Duplicated,
        Self::Refused,
        Self::Blackout,
        Self::Suspended,
        Self::Restarted,
        Self::ClockSet,
        Self::Passed,
    ];
}

impl Event {
    pub(super) const fn of(fault: Fault) -> Option<Self> {
        match fault {
            Fault::None => None,
            Fault::LostRequest => Some(Self::LostRequest),
            Fault::LostReply => Some(Self::LostReply),
            Fault::LateRequest => Some(Self::LateRequest),
            Fault::Duplicated => Some(Self::Duplicated),
            Fault::Refused | Fault::Unacceptable => Some(Self::Refused),
        }
    }
}

/// How things ended, as far as a check depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Redeemed,
    Replayed,
    Created,
    CreationRefused,
    Refreshed,
    GivenAgain,
    Reused,
    EndedForRoom,
    Rotated,
    RotationLost,
    NewSealingKey,
    CountedAll,
    RequestsFull,
    Unknown,
    Collected,
    LeaseTakenOver,
    DataKeyMade,
    DataKeyRemoved,
    SealedAgain,
}

impl Outcome {
    const ALL: [Self; 19] = [
        Self::Redeemed,
        Self::Replayed,
        Self::Created,
        Self::CreationRefused,
        Self::Refreshed,
        Self::GivenAgain,
        Self::Reused,
        Self::EndedForRoom,
        Self::Rotated,
        Self::RotationLost,
        Self::NewSealingKey,
        Self::CountedAll,
        Self::RequestsFull,
        Self::Unknown,
        Self::Collected,
        Self::LeaseTakenOver,
        Self::DataKeyMade,
        Self::DataKeyRemoved,
        Self::SealedAgain,
    ];
}

#[derive(Clone, Debug)]
pub(super) struct Tally {
    histories: u64,
    replicas: u64,
    calls: u64,
    fewest: u64,
    ops: [u64; Op::ALL.len()],
    events: [u64; Event::ALL.len()],
    outcomes: [u64; Outcome::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            histories: 0,
            replicas: 0,
            calls: 0,
            fewest: 0,
            ops: [0; Op::ALL.len()],
            events: [0; Event::ALL.len()],
            outcomes: [0; Outcome::ALL.len()],
        }
    }
}

impl Tally {
    /// The tally of one history.
    pub(super) fn of_history(replicas: usize) -> Self {
        Self { histories: 1, replicas: replicas as u64, ..Self::default() }
    }

    pub(super) fn op(&mut self, op: Op) {
        self.ops[op as usize] += 1;
        self.calls += 1;
        self.fewest = self.calls;
    }

    pub(super) fn event(&mut self, event: Event) {
        self.events[event as usize] += 1;
    }

    pub(super) fn outcome(&mut self, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.fewest = if self.histories == 0 { other.fewest } else { self.fewest.min(other.fewest) };
        self.histories += other.histories;
        self.replicas += other.replicas;
        self.calls += other.calls;
        self.ops.iter_mut().zip(other.ops).for_each(|(sum, more)| *sum += more);
        self.events.iter_mut().zip(other.events).for_each(|(sum, more)| *sum += more);
        self.outcomes.iter_mut().zip(other.outcomes).for_each(|(sum, more)| *sum += more);
    }

    /// Of a hundred operations, at least one is of each kind, and each kind of fault strikes at least once.
    pub(super) fn assert_everything_happened(&self) {
        for op in Op::ALL {
            assert!(self.ops[op as usize] * 100 >= self.calls, "{op:?} is rarer than one in a hundred\n{self}");
        }
        for event in Event::ALL {
            assert!(
                self.events[event as usize] * 100 >= self.calls,
                "{event:?} is rarer than one in a hundred\n{self}"
            );
        }
        for outcome in Outcome::ALL {
            assert!(self.outcomes[outcome as usize] * 1000 >= self.calls, "{outcome:?} hardly ever happens\n{self}");
        }
        assert!(self.fewest >= u64::from(super::CALLS), "a history has {} calls", self.fewest);
        let third = self.replicas - 2 * self.histories;
        assert!(third * 4 > self.histories && third < self.histories, "{third} histories with three replicas");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |count: u64| count as f64 * 100.0 / self.calls.max(1) as f64;
        let third = self.replicas.saturating_sub(2 * self.histories);
        let Self { histories, calls, fewest, .. } = self;
        writeln!(f, "{calls} calls in {histories} histories, at least {fewest} in each; {third} have three replicas")?;
        for op in Op::ALL {
            write!(f, "{op:?} {:.1} %, ", share(self.ops[op as usize]))?;
        }
        writeln!(f)?;
        for event in Event::ALL {
            write!(f, "{event:?} {:.1} %, ", share(self.events[event as usize]))?;
        }
        writeln!(f)?;
        for outcome in Outcome::ALL {
            write!(f, "{outcome:?} {:.1} %, ", share(self.outcomes[outcome as usize]))?;
        }
        Ok(())
    }
}
