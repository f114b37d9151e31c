//! Leases: promises T1 and T2.

use portcullis_storage::{Candidate, Duty, LEASE_LIFETIME};

use super::{
    Checked,
    tally::{Op, Outcome},
    violated,
    world::World,
};

/// What is known of the lease.
#[derive(Default)]
pub(super) struct Leases {
    /// Who was acknowledged to hold it last, and has not given it back.
    holder: Option<String>,
}

impl World {
    pub(super) fn contend(&mut self) -> Checked {
        let replica = self.some_replica();
        self.contend_on(replica)
    }

    fn contend_on(&mut self, replica: usize) -> Checked {
        let Some(mut candidate) = self.candidate(replica) else { return Ok(()) };
        self.ask(
            (Op::Contend, replica, String::new),
            |_| async move {
                let held = candidate.contend().await;
                (candidate, held)
            },
            |_, _| {},
            move |model, _, (candidate, held)| {
                if held == Ok(true) {
                    let last = model.leases.holder.replace(candidate.id().to_owned());
                    if last.is_some() && last != model.leases.holder {
                        model.tally.outcome(Outcome::LeaseTakenOver);
                    }
                }
                violated(held == Ok(true) && !candidate.tenure().is_held(), || {
                    format!("T1: replica {replica} is told that it holds a lease which is over")
                })?;
                model.handles[replica].candidate = Some(candidate);
                Ok(())
            },
        )
    }

    pub(super) fn release(&mut self) -> Checked {
        let holds = |candidate: &Candidate| candidate.tenure().is_held();
        let Some(replica) = self.replica_with(|handles| handles.candidate.as_ref().is_some_and(holds)) else {
            return Ok(());
        };
        let Some(mut candidate) = self.candidate(replica) else { return Ok(()) };
        self.ask(
            (Op::Release, replica, String::new),
            |_| async move {
                let done = candidate.release().await;
                (candidate, done)
            },
            |_, _| {},
            move |model, _, (candidate, _)| {
                if model.leases.holder.as_deref() == Some(candidate.id()) {
                    model.leases.holder = None;
                }
                model.handles[replica].candidate = Some(candidate);
                Ok(())
            },
        )
    }

    /// The replica's candidate, for a call; none while it is in one.
    fn candidate(&mut self, replica: usize) -> Option<Candidate> {
        if [Op::Contend, Op::Release].into_iter().any(|op| self.is_suspended(replica, op)) {
            return None;
        }
        let store = self.store(replica);
        let handles = &mut self.model.handles[replica];
        let candidate = handles.candidate.take();
        let candidate = candidate.unwrap_or_else(|| store.leases().candidate(Duty::Collect, LEASE_LIFETIME));
        handles.tenure = Some(candidate.tenure());
        Some(candidate)
    }

    /// Never are there two holders, each by its own clocks.
    pub(super) fn at_most_one_holds_the_lease(&self) -> Checked {
        let handles = self.model.handles.iter().enumerate();
        let holds = |tenure: &portcullis_storage::Tenure| tenure.is_held();
        let holders: Vec<usize> = handles
            .filter(|(_, handles)| handles.tenure.as_ref().is_some_and(holds))
            .map(|(replica, _)| replica)
            .collect();
        violated(holders.len() > 1, || format!("T1: the replicas {holders:?} hold the lease"))
    }

    /// What nobody renews can be had.
    pub(super) fn leases_at_rest(&mut self) -> Checked {
        self.contend_on(0)?;
        self.at_most_one_holds_the_lease()?;
        self.wait_out(LEASE_LIFETIME)?;
        self.contend_on(0)?;
        self.at_most_one_holds_the_lease()?;
        let held = self.model.handles[0].tenure.as_ref().is_some_and(|tenure| tenure.is_held());
        violated(!held, || "T2: nobody renews the lease, and it cannot be had".to_owned())
    }
}
