//! Looking at a whole store: how much there is of what, and whether it is as it should be.

use std::collections::{BTreeMap, HashSet};

use crate::{
    clients, codes, connectors,
    document::Indexed,
    error::StoreError,
    failures, families,
    kernel::{IndexKey, Kind, Record},
    logins, passwords, requests, seal, sealing_keys, signing_keys,
    store::Store,
};

/// How much there is of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCensus {
    /// Records.
    pub records: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// How many of them have expired, and wait for the collector.
    pub expired: u64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The record's kind.
    pub kind: Kind,
    /// The record's id. For codes and families it is a hash, or a name that nobody presents.
    pub id: String,
    /// What is wrong with it, in words; no content.
    pub what: String,
}

/// What a check has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many records were read.
    pub records: u64,
    /// How many findings there were.
    pub findings: u64,
}

/// What a record says about refresh token families.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mentions {
    /// The record is a family that lives, of this id.
    pub(crate) lives: Option<String>,
    /// These are on a list, or are taken off it.
    pub(crate) listed: Vec<String>,
    /// What is wrong with the record all the same.
    pub(crate) wrong: Option<&'static str>,
}

impl Store {
    /// Counts what there is, as of one moment.
    ///
    /// # Errors
    /// [`StoreError::Kernel`].
    pub async fn census(&self) -> Result<BTreeMap<Kind, KindCensus>, StoreError> {
        let now = self.now();
        let mut census: BTreeMap<Kind, KindCensus> = BTreeMap::new();
        let mut snapshot = self.kernel().snapshot().await?;
        while let Some(batch) = snapshot.next().await? {
            for (kind, record) in batch {
                let entry = census.entry(kind).or_default();
                entry.records += 1;
                entry.bytes += record.data.len() as u64;
                entry.expired += u64::from(record.expires_at.is_some_and(|at| at <= now));
            }
        }
        Ok(census)
    }

    /// Reads every record as of one moment and says what is wrong: what cannot be read or be a record, secrets that do not open with the keys that
    /// are given, ids and index keys that are not those of the content, families that live and are on no list (F9 in
    /// `docs/store-invariants.md`). Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Kernel`] when the store cannot be read at all.
    pub async fn check(&self, mut finding: impl FnMut(Finding) + Send) -> Result<Checked, StoreError> {
        let now = self.now();
        let mut checked = Checked::default();
        let mut found = |checked: &mut Checked, kind, id: &str, what| {
            checked.findings += 1;
            finding(Finding { kind, id: id.to_owned(), what });
        };
        let (mut lives, mut listed) = (Vec::new(), HashSet::new());
        let mut snapshot = self.kernel().snapshot().await?;
        for Finding { kind, id, what } in snapshot.left_out() {
            found(&mut checked, *kind, id, what.clone());
        }
        while let Some(batch) = snapshot.next().await? {
            for (kind, record) in batch {
                checked.records += 1;
                match self.inspect(kind, &record) {
                    Ok(mentions) => {
                        // What is over may be collected before or after its list.
                        let live = mentions.lives.filter(|_| record.expires_at.is_none_or(|at| at > now));
                        lives.extend(live);
                        listed.extend(mentions.listed.iter().map(|id| IndexKey::of(&[id])));
                        if let Some(what) = mentions.wrong {
                            found(&mut checked, kind, &record.id, what.to_owned());
                        }
                    }
                    Err(error) => found(&mut checked, kind, &record.id, words(error)),
                }
            }
        }
        for id in lives.iter().filter(|id| !listed.contains(&IndexKey::of(&[id]))) {
            let what = "it lives and is on no list: signing its user out would not end it".to_owned();
            found(&mut checked, Kind::Family, id, what);
        }
        Ok(checked)
    }

    fn inspect(&self, kind: Kind, record: &Record) -> Result<Mentions, StoreError> {
        match kind {
            Kind::Login => logins::inspect(self, record),
            Kind::Code => codes::inspect(self, record),
            Kind::Family => families::inspect(self, record),
            Kind::FamilyList => families::inspect_list(record),
            Kind::Epoch => families::inspect_epoch(record),
            Kind::SigningKeys => signing_keys::inspect(self, record),
            Kind::SealingKeys => sealing_keys::inspect(self, record),
            Kind::Client => clients::inspect(self, record),
            Kind::Password => passwords::inspect(self, record),
            Kind::Connector => connectors::inspect(self, record),
            Kind::DataKeys => seal::inspect(record),
            Kind::Failures => failures::inspect(record),
            Kind::Request => requests::inspect(record),
            // Not in a snapshot.
            Kind::Lease => Ok(Mentions::default()),
        }
    }
}

/// The error without the kind and id that a finding names already.
fn words(error: StoreError) -> String {
    match error {
        StoreError::Damaged { what, .. } => what,
        StoreError::MissingKey { key, .. } => {
            format!("it is sealed with the data key {key:?}, which is not in the store")
        }
        other => other.to_string(),
    }
}

/// A record whose id, expiry or index keys are not those of its content.
pub(crate) fn misplaced(kind: Kind, record: &Record, what: &str) -> StoreError {
    StoreError::Damaged { kind, id: record.id.clone(), what: what.to_owned() }
}

/// Refuses a record that would be collected at another time than its content says.
pub(crate) fn same_expiry(kind: Kind, record: &Record, indexed: Indexed) -> Result<(), StoreError> {
    if record.expires_at == indexed.expires_at {
        return Ok(());
    }
    Err(misplaced(kind, record, "its expiry is not that of its content"))
}
