//! The store kernel: the operations that a backend implements, once; and what it can tell of configured objects.
//!
//! A record is `(kind, id, version, up to two hashed index keys, expiry, data)`. Ids are compared as bytes. Everything
//! that decides something goes through [`Kernel::insert`] (fails when the id exists) and [`Kernel::update`] (fails when
//! the version moved on), each of which is atomic for its one record; there is no transaction over two records.
//!
//! A kernel never looks into the data, never hides a record because its expiry has passed (the facades do), and never
//! hands out the same version twice for one id, also not after the record was deleted and inserted again.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use aws_lc_rs::digest;
use portcullis_runtime::Timestamp;

use crate::{error::KernelError, snapshot::Snapshot};

pub use crate::changes::{Change, Feed};

/// Longest id, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 1024;
/// Most data that a record may hold, in bytes.
pub const MAX_DATA_BYTES: usize = 256 * 1024;
/// Most records on one page.
pub const MAX_PAGE_RECORDS: usize = 1000;
/// A page ends with the record that brings its data to this many bytes.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Most records that one call of [`Kernel::expire`] deletes.
pub const MAX_EXPIRE: usize = 1000;

/// What a kernel's operation returns: a boxed future, so that the trait is object-safe.
pub type KernelFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KernelError>> + Send + 'a>>;

/// A store. All methods may be called from many tasks at once, and none blocks the thread that polls it.
pub trait Kernel: Send + Sync + 'static {
    /// Reads one record.
    fn get<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>>;

    /// Writes a record that does not exist yet and returns its version. Fails with [`KernelError::AlreadyExists`].
    fn insert<'a>(&'a self, kind: Kind, id: &'a str, write: Write) -> KernelFuture<'a, Version>;

    /// Replaces a record that still has `version` and returns its new version. Fails with [`KernelError::Conflict`]
    /// when it has another one, with [`KernelError::NotFound`] when there is none.
    fn update<'a>(&'a self, kind: Kind, id: &'a str, version: Version, write: Write) -> KernelFuture<'a, Version>;

    /// Deletes a record that still has `version`. Fails as [`Kernel::update`] does.
    fn delete<'a>(&'a self, kind: Kind, id: &'a str, version: Version) -> KernelFuture<'a, ()>;

    /// Records of a kind in byte order of their ids.
    fn list<'a>(&'a self, kind: Kind, page: Page) -> KernelFuture<'a, Listing>;

    /// Records of a kind whose index key in `slot` equals `key`, in byte order of their ids.
    fn by_index<'a>(&'a self, kind: Kind, slot: Slot, key: IndexKey, page: Page) -> KernelFuture<'a, Listing>;

    /// Deletes up to `limit` (at most [`MAX_EXPIRE`]) records of any kind whose expiry is at or before `now`, the
    /// earliest first, and returns how many. Fewer than asked for means that none is left but such as another caller is
    /// deleting or changing just now.
    fn expire<'a>(&'a self, now: Timestamp, limit: usize) -> KernelFuture<'a, usize>;

    /// All records of all kinds but leases, as they are at a moment between this call and its answer.
    fn snapshot(&self) -> KernelFuture<'_, Snapshot>;

    /// Which backend it is, where it keeps the records, and in which form.
    fn description(&self) -> Description;

    /// A configured record as it is in force: as [`Kernel::get`] gives it, on backends that watch perhaps as it was a moment
    /// ago (but never older than what was written through this kernel), and without a call to a server.
    fn recent<'a>(&'a self, kind: Kind, id: &'a str) -> KernelFuture<'a, Option<Record>> {
        self.get(kind, id)
    }

    /// Changes of a kind that the backend tells of by itself; `None` when it must be asked ([`Kernel::mark`]).
    fn feed(&self, _kind: Kind) -> Option<Feed> {
        None
    }

    /// Two calls give the same mark as long as no record of the kind is written or deleted between them; after a change,
    /// another one (SQL servers: unless two replicas' changes between the two calls make up for each other to the last
    /// digit of a version, which the next change brings to light). Cheap on backends without a feed: no data is read.
    fn mark<'a>(&'a self, kind: Kind) -> KernelFuture<'a, Mark> {
        Box::pin(async move { walked_mark(self, kind).await })
    }

    /// What the backend knows to be wrong with it although it answers, for a health check. On Kubernetes: that a kind which people
    /// write has not been watched for so long that what is in force may no longer be what they have written.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Gives the backend a judge of configured records. Where people write them, what the judge refuses never comes into
    /// force, and the object says so. Elsewhere they are written through the facades alone, and nothing is judged.
    fn judge_with(&self, _judge: Judge) {}

    /// The judge knows more than before: everything is judged again.
    fn judge_again(&self) {}

    /// Writes down how a configured record was found: in the object's status where it has one, in the log elsewhere.
    fn report<'a>(&'a self, kind: Kind, id: &'a str, verdict: Verdict) -> KernelFuture<'a, ()> {
        Box::pin(async move {
            if let Verdict::Refused { reason, message } = verdict {
                tracing::error!(%kind, id, reason, "a configured object cannot be used: {message}");
            }
            Ok(())
        })
    }
}

/// Whether records of a kind have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(pub u64, pub u64);

/// The mark of a kernel that has no better way: over the versions of all records.
pub(crate) async fn walked_mark<K: Kernel + ?Sized>(kernel: &K, kind: Kind) -> Result<Mark, KernelError> {
    let mut mark = Mark::default();
    let mut page = Some(Page::first(MAX_PAGE_RECORDS));
    while let Some(current) = page {
        let listing = kernel.list(kind, current).await?;
        for record in &listing.records {
            mark = mark.and(record.version);
        }
        page = listing.next;
    }
    Ok(mark)
}

impl Mark {
    /// With one more record: how many there are, and the sum of their versions, each of which is given once.
    const fn and(self, version: Version) -> Self {
        Self(self.0.wrapping_add(1), self.1.wrapping_add(version.number()))
    }
}

/// Judges a configured record.
pub type Judge = Arc<dyn Fn(Kind, &Record) -> Verdict + Send + Sync>;

/// How a configured object was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can be used, and is.
    Accepted,
    /// It cannot; what was in force before stays in force.
    Refused {
        /// For programs: a word in CamelCase.
        reason: &'static str,
        /// For people: what is wrong, and how to mend it. No secret.
        message: String,
    },
}

impl Verdict {
    /// A refusal.
    #[must_use]
    pub fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Refused { reason, message: message.into() }
    }
}

/// What a kernel says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The backend by its name in the configuration (Dex's `storage.type`).
    pub backend: &'static str,
    /// Where the records are, in words; without credentials.
    pub place: String,
    /// The number of the schema in which this program keeps the records there.
    pub schema: u64,
}

/// The kinds of record. Codes and names are on disk: they are never changed or used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A sign-in that has succeeded, by flow id.
    Login,
    /// An authorization code, by hash.
    Code,
    /// A refresh token family, live or as a tombstone.
    Family,
    /// The families of one user at one client.
    FamilyList,
    /// The provider's signing keys; one record.
    SigningKeys,
    /// The keys that seal cookies; a record for each kind of cookie.
    SealingKeys,
    /// An OAuth client.
    Client,
    /// A local user.
    Password,
    /// Failed sign-ins of an account.
    Failures,
    /// An authorization request too large for a cookie, by slot.
    Request,
    /// The keys that seal secrets, wrapped; one record.
    DataKeys,
    /// A connector: where people come from that the provider does not know itself.
    Connector,
    /// Which replica does what one does for all. Reached by its id alone: it has no index keys and no expiry, and lists and
    /// snapshots need not have it, because on Kubernetes it is a `Lease` like everybody's.
    Lease,
    /// How often a user was signed out everywhere.
    Epoch,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
        Self::Login,
        Self::Code,
        Self::Family,
        Self::FamilyList,
        Self::SigningKeys,
        Self::SealingKeys,
        Self::Client,
        Self::Password,
        Self::Failures,
        Self::Request,
        Self::DataKeys,
        Self::Connector,
        Self::Lease,
        Self::Epoch,
    ];

    /// Whether such records are part of somebody's sign-in, and end with it.
    #[must_use]
    pub const fn is_session(self) -> bool {
        match self {
            Self::Login | Self::Code | Self::Family | Self::FamilyList | Self::Request | Self::Epoch => true,
            Self::SigningKeys
            | Self::SealingKeys
            | Self::Client
            | Self::Password
            | Self::Failures
            | Self::DataKeys
            | Self::Connector
            | Self::Lease => false,
        }
    }

    /// The largest number that stands for a kind.
    pub(crate) const LAST_CODE: u8 = Self::ALL.len() as u8;

    /// The kinds that people configure: clients, local users, connectors. Their data is a document of their facade's, which
    /// a backend may keep in a form that people read and write ([`Kernel::recent`]); their records have no index keys and no
    /// expiry.
    pub const CONFIGURED: [Self; 3] = [Self::Client, Self::Password, Self::Connector];

    /// The number that stands for the kind in SQL backends.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Login => 1,
            Self::Code => 2,
            Self::Family => 3,
            Self::FamilyList => 4,
            Self::SigningKeys => 5,
            Self::SealingKeys => 6,
            Self::Client => 7,
            Self::Password => 8,
            Self::Failures => 9,
            Self::Request => 10,
            Self::DataKeys => 11,
            Self::Connector => 12,
            Self::Lease => 13,
            Self::Epoch => 14,
        }
    }

    /// The name that stands for the kind in messages and in backends that have names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Code => "code",
            Self::Family => "family",
            Self::FamilyList => "family-list",
            Self::SigningKeys => "signing-keys",
            Self::SealingKeys => "sealing-keys",
            Self::Client => "client",
            Self::Password => "password",
            Self::Failures => "failures",
            Self::Request => "request",
            Self::DataKeys => "data-keys",
            Self::Connector => "connector",
            Self::Lease => "lease",
            Self::Epoch => "epoch",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The version of a record: opaque, and never given twice to one id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(u64);

impl Version {
    /// For backends: the version that a number of theirs stands for.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// For backends: the number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// An index key: the SHA-256 of what is looked up, so that a backend learns neither length nor content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey([u8; 32]);

impl IndexKey {
    /// The key for a tuple of strings; the tuple `("a", "bc")` has another key than `("ab", "c")`.
    #[must_use]
    pub fn of(parts: &[&str]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut bytes = [0; 32];
        bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// For backends: the bytes to store and compare.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// For backends: a key as it was stored; `None` unless it has 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey(")?;
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

/// Which of a record's two index keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The first.
    First,
    /// The second.
    Second,
}

/// What is written: all of a record but its name and version.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Write {
    /// The index keys.
    pub index: [Option<IndexKey>; 2],
    /// From when on [`Kernel::expire`] may delete the record; never when absent.
    pub expires_at: Option<Timestamp>,
    /// The content, at most [`MAX_DATA_BYTES`].
    pub data: Vec<u8>,
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("index", &self.index)
            .field("expires_at", &self.expires_at)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .finish()
    }
}

/// A record as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Its version when it was read.
    pub version: Version,
    /// Its index keys.
    pub index: [Option<IndexKey>; 2],
    /// From when on it may be deleted.
    pub expires_at: Option<Timestamp>,
    /// Its content.
    pub data: Vec<u8>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("version", &self.version)
            .field("index", &self.index)
            .field("expires_at", &self.expires_at)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .finish()
    }
}

/// Which part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only ids after this one, in byte order; from the start when absent. It need not exist (any more).
    pub after: Option<String>,
    /// At most this many records, at least 1 and at most [`MAX_PAGE_RECORDS`]; other numbers are brought into range.
    pub limit: usize,
}

impl Page {
    /// The first page of the given size.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self { after: None, limit }
    }

    /// For backends: the limit, brought into range.
    #[must_use]
    pub fn clamped_limit(&self) -> usize {
        self.limit.clamp(1, MAX_PAGE_RECORDS)
    }
}

/// One page of a list. A record that exists throughout a walk over all pages is on exactly one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The records in byte order of their ids.
    pub records: Vec<Record>,
    /// The page after this one; `None` when this was the last.
    pub next: Option<Page>,
}

impl Listing {
    /// For backends: makes a page from an ordered source of records, ending it at the limits.
    ///
    /// # Errors
    /// Those of the source.
    pub fn collect<E>(page: &Page, records: impl Iterator<Item = Result<Record, E>>) -> Result<Self, E> {
        let limit = page.clamped_limit();
        let mut out = Vec::new();
        let mut bytes = 0_usize;
        let mut records = records.peekable();
        while let Some(record) = records.next() {
            let record = record?;
            bytes = bytes.saturating_add(record.data.len());
            let after = record.id.clone();
            out.push(record);
            if (out.len() >= limit || bytes >= MAX_PAGE_BYTES) && records.peek().is_some() {
                return Ok(Self { records: out, next: Some(Page { after: Some(after), limit }) });
            }
        }
        Ok(Self { records: out, next: None })
    }
}

/// For backends: refuses an id that is empty or too long.
///
/// # Errors
/// [`KernelError::Id`].
pub const fn check_id(id: &str) -> Result<(), KernelError> {
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(KernelError::Id { bytes: id.len() });
    }
    Ok(())
}

/// For backends: refuses a write whose id or data is out of bounds.
///
/// # Errors
/// [`KernelError::Id`], [`KernelError::Data`].
pub const fn check_write(id: &str, write: &Write) -> Result<(), KernelError> {
    if write.data.len() > MAX_DATA_BYTES {
        return Err(KernelError::Data { bytes: write.data.len() });
    }
    check_id(id)
}
