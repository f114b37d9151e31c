//! What a store should hold, as fingerprints: 16 bytes a record, so that a million of them fit into a few dozen megabytes.

use std::collections::HashSet;

use aws_lc_rs::digest;

use crate::{
    kernel::{Kind, Record},
    kubernetes::canonical,
};

/// Fingerprints of records.
#[derive(Clone, Default)]
pub(super) struct Contents(HashSet<u128>);

impl Contents {
    /// False when it was there already.
    pub(super) fn add(&mut self, kind: Kind, record: &Record) -> bool {
        self.0.insert(fingerprint(kind, record))
    }

    pub(super) fn has(&self, kind: Kind, record: &Record) -> bool {
        self.0.contains(&fingerprint(kind, record))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Half of the SHA-256 of all that a record is but its version, which each store gives anew. Of a configured object it is what
/// its document says that counts: on Kubernetes it is kept in a form for people, without what is empty.
pub(super) fn fingerprint(kind: Kind, record: &Record) -> u128 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[kind.code()]);
    let mut part = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(u64::MAX, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        context.update(&length.to_be_bytes());
        context.update(bytes.unwrap_or_default());
    };
    part(Some(record.id.as_bytes()));
    for key in &record.index {
        part(key.as_ref().map(|key| key.as_bytes().as_slice()));
    }
    part(record.expires_at.map(|at| at.unix_nanos().to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
    let canonical = canonical(kind, record);
    part(Some(canonical.as_deref().unwrap_or(&record.data)));
    let half = context.finish().as_ref().first_chunk().copied().unwrap_or_default();
    u128::from_be_bytes(half)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use portcullis_runtime::Timestamp;

    use super::*;
    use crate::kernel::{IndexKey, Version};

    #[test]
    fn every_part_of_a_record_but_its_version_counts() {
        let plain = Record {
            id: "id".to_owned(),
            version: Version::new(1),
            index: [None, None],
            expires_at: None,
            data: b"data".to_vec(),
        };
        let key = Some(IndexKey::of(&["k"]));
        let all = [
            (Kind::Code, plain.clone()),
            (Kind::Login, plain.clone()),
            (Kind::Code, Record { id: "idd".to_owned(), data: b"ata".to_vec(), ..plain.clone() }),
            (Kind::Code, Record { index: [key, None], ..plain.clone() }),
            (Kind::Code, Record { index: [None, key], ..plain.clone() }),
            (Kind::Code, Record { expires_at: Some(Timestamp::UNIX_EPOCH), ..plain.clone() }),
            (Kind::Code, Record { data: Vec::new(), ..plain.clone() }),
        ];
        let found: BTreeSet<u128> = all.iter().map(|(kind, record)| fingerprint(*kind, record)).collect();
        assert_eq!(found.len(), all.len());
        let newer = Record { version: Version::new(2), ..plain.clone() };
        assert_eq!(fingerprint(Kind::Code, &newer), fingerprint(Kind::Code, &plain));
    }
}
