//! The kubeconfig file: read, changed in a few places, and written back with everything else as it was.
//!
//! The document stays a tree of JSON values in file order; typed views ([`Cluster`], [`User`], [`Context`]) are read from it
//! and merged into it, so that extensions and members of other tools survive. Comments do not (kubectl loses them too).
//! Nothing here opens a file, and no error or `Debug` output holds a value of a user entry.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::yaml::{self, YamlError};

mod entries;
mod read;

pub use entries::{AuthProvider, Cluster, Context, Exec, User};

use read::{Place, kind_of};

/// Bytes that a kubeconfig may have: some thousand clusters with their certificates.
pub const BYTES_LIMIT: usize = 8 * 1024 * 1024;
/// Entries that each of the three lists may have.
pub const ENTRIES_LIMIT: usize = 10_000;

/// A kubeconfig document.
#[derive(Clone, PartialEq)]
pub struct Kubeconfig {
    root: Map<String, Value>,
    file: String,
}

/// What a context stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// Name of the context.
    pub name: String,
    /// The context.
    pub context: Context,
    /// Its cluster.
    pub cluster: Cluster,
    /// Its user.
    pub user: User,
}

/// Why a kubeconfig cannot be used. Every text names the file, and the path where there is one; [`KubeconfigError::hint`]
/// says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeconfigError {
    /// Not YAML, or too large.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// A member is there, with another type.
    #[error("{file}: {path}: expected {expected}, found {found}")]
    WrongType {
        /// The file.
        file: String,
        /// For example `users[0].user.exec.args`.
        path: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The document is of another kind or version.
    #[error("{file}: {path}: expected {expected:?}, found {found:?}")]
    WrongKind {
        /// The file.
        file: String,
        /// `kind` or `apiVersion`.
        path: &'static str,
        /// `Config` or `v1`.
        expected: &'static str,
        /// What it says.
        found: String,
    },
    /// Two entries of one list have the same name; client-go refuses that.
    #[error("{file}: {path}: another entry is named {name:?} too")]
    Duplicate {
        /// The file.
        file: String,
        /// For example `users[3]`.
        path: String,
        /// The name.
        name: String,
    },
    /// More entries than allowed.
    #[error("{file}: {list}: {count} entries, at most {ENTRIES_LIMIT} are read")]
    TooMany {
        /// The file.
        file: String,
        /// `clusters`, `users` or `contexts`.
        list: &'static str,
        /// How many there are.
        count: usize,
    },
    /// A name that nothing has.
    #[error("{file}: there is no {what} named {name:?}")]
    Missing {
        /// The file.
        file: String,
        /// `context`, `cluster` or `user`.
        what: &'static str,
        /// The name.
        name: String,
        /// What to do.
        hint: String,
    },
    /// No context was asked for, and the file has no current one.
    #[error("{file}: current-context is not set")]
    NoCurrentContext {
        /// The file.
        file: String,
    },
    /// The document could not be printed.
    #[error("{file}: cannot be written as YAML: {reason}")]
    Unprintable {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
}

impl KubeconfigError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Yaml(error) => error.hint().unwrap_or(
                "a kubeconfig is YAML or JSON; `kubectl config view --kubeconfig FILE` shows whether kubectl can read it",
            ).to_owned(),
            Self::WrongType { path, .. } => format!("correct {path} in that file"),
            Self::WrongKind { .. } => "this is not a kubeconfig that kubectl would read".to_owned(),
            Self::Duplicate { .. } => "rename or remove one of them".to_owned(),
            Self::TooMany { .. } => "split the file".to_owned(),
            Self::Missing { hint, .. } => hint.clone(),
            Self::NoCurrentContext { .. } => "choose one with `kubectl config use-context NAME`".to_owned(),
            Self::Unprintable { .. } => "this is a defect of this program".to_owned(),
        }
    }
}

impl Kubeconfig {
    /// An empty document with kubectl's members, in kubectl's order. `file` is for messages.
    pub fn new(file: &str) -> Self {
        let root = json!({
            "apiVersion": "v1",
            "clusters": [],
            "contexts": [],
            "current-context": "",
            "kind": "Config",
            "users": [],
        });
        Self { root: root.as_object().cloned().unwrap_or_default(), file: file.to_owned() }
    }

    /// Reads a document. An empty file is an empty document, as for kubectl. `file` is for messages.
    ///
    /// # Errors
    /// [`KubeconfigError`] when client-go would refuse it too, or when it is over a limit.
    pub fn parse(text: &str, file: &str) -> Result<Self, KubeconfigError> {
        let value: Value = match text.trim_start_matches('\u{feff}') {
            blank if blank.trim().is_empty() => Value::Null,
            text => yaml::parse(text, file, BYTES_LIMIT)?,
        };
        let root = match value {
            Value::Null => return Ok(Self::new(file)),
            Value::Object(root) => root,
            other => {
                return Err(KubeconfigError::WrongType {
                    file: file.to_owned(),
                    path: "the document".to_owned(),
                    expected: "a map",
                    found: kind_of(&other),
                });
            }
        };
        let mut this = Self { root, file: file.to_owned() };
        this.check()?;
        this.quote_names();
        Ok(this)
    }

    /// Prints the document, with its members in their order.
    ///
    /// # Errors
    /// [`KubeconfigError::Unprintable`], which nothing that was parsed can cause.
    pub fn to_yaml(&self) -> Result<String, KubeconfigError> {
        yaml::print(&self.root).map_err(|reason| KubeconfigError::Unprintable { file: self.file.clone(), reason })
    }

    /// The current context's name, when one is set.
    pub fn current_context(&self) -> Option<&str> {
        self.root.get("current-context").and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    /// Sets the current context; an empty name unsets it.
    pub fn set_current_context(&mut self, name: &str) {
        self.root.insert("current-context".to_owned(), name.into());
    }

    /// Names of the clusters, in file order.
    pub fn cluster_names(&self) -> Vec<&str> {
        self.names(CLUSTERS)
    }

    /// Names of the users, in file order.
    pub fn user_names(&self) -> Vec<&str> {
        self.names(USERS)
    }

    /// Names of the contexts, in file order.
    pub fn context_names(&self) -> Vec<&str> {
        self.names(CONTEXTS)
    }

    /// A cluster.
    ///
    /// # Errors
    /// [`KubeconfigError::WrongType`] with the path of the member.
    pub fn cluster(&self, name: &str) -> Result<Option<Cluster>, KubeconfigError> {
        self.entry(CLUSTERS, name).map(|place| Cluster::read(&place)).transpose()
    }

    /// A user.
    ///
    /// # Errors
    /// [`KubeconfigError::WrongType`] with the path of the member.
    pub fn user(&self, name: &str) -> Result<Option<User>, KubeconfigError> {
        self.entry(USERS, name).map(|place| User::read(&place)).transpose()
    }

    /// A context.
    ///
    /// # Errors
    /// [`KubeconfigError::WrongType`] with the path of the member.
    pub fn context(&self, name: &str) -> Result<Option<Context>, KubeconfigError> {
        self.entry(CONTEXTS, name).map(|place| Context::read(&place)).transpose()
    }

    /// What a context (or the current one) stands for.
    ///
    /// # Errors
    /// [`KubeconfigError::Missing`] names what is not there.
    pub fn resolve(&self, context: Option<&str>) -> Result<Resolved, KubeconfigError> {
        let name = context
            .or_else(|| self.current_context())
            .ok_or_else(|| KubeconfigError::NoCurrentContext { file: self.file.clone() })?;
        let found = self.context(name)?.ok_or_else(|| self.missing("context", name, &self.context_names()))?;
        let cluster = self
            .cluster(&found.cluster)?
            .ok_or_else(|| self.missing("cluster", &found.cluster, &self.cluster_names()))?;
        let user = self.user(&found.user)?.ok_or_else(|| self.missing("user", &found.user, &self.user_names()))?;
        Ok(Resolved { name: name.to_owned(), context: found, cluster, user })
    }

    /// Adds a cluster, or changes what a [`Cluster`] knows of one.
    pub fn set_cluster(&mut self, name: &str, cluster: &Cluster) {
        self.set(CLUSTERS, name, |inner| cluster.write(inner));
    }

    /// Adds a user, or changes what a [`User`] knows of one.
    pub fn set_user(&mut self, name: &str, user: &User) {
        self.set(USERS, name, |inner| user.write(inner));
    }

    /// Adds a context, or changes what a [`Context`] knows of one.
    pub fn set_context(&mut self, name: &str, context: &Context) {
        self.set(CONTEXTS, name, |inner| context.write(inner));
    }

    /// Removes a cluster; whether there was one.
    pub fn remove_cluster(&mut self, name: &str) -> bool {
        self.remove(CLUSTERS, name)
    }

    /// Removes a user; whether there was one.
    pub fn remove_user(&mut self, name: &str) -> bool {
        self.remove(USERS, name)
    }

    /// Removes a context; whether there was one. A current context of that name is unset, lest kubectl complain about it.
    pub fn remove_context(&mut self, name: &str) -> bool {
        if self.current_context() == Some(name) {
            self.set_current_context("");
        }
        self.remove(CONTEXTS, name)
    }

    /// The file's name, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The document, for what the typed views do not know.
    pub fn as_value(&self) -> &Map<String, Value> {
        &self.root
    }

    fn check(&self) -> Result<(), KubeconfigError> {
        let root = Place::root(&self.root, &self.file);
        for (path, expected) in [("kind", "Config"), ("apiVersion", "v1")] {
            let found = root.text(path)?;
            if !found.is_empty() && found != expected {
                return Err(KubeconfigError::WrongKind { file: self.file.clone(), path, expected, found });
            }
        }
        root.text("current-context")?;
        for list in [CLUSTERS, USERS, CONTEXTS] {
            let entries = root.list(list.plural)?;
            if entries.len() > ENTRIES_LIMIT {
                let (file, count) = (self.file.clone(), entries.len());
                return Err(KubeconfigError::TooMany { file, list: list.plural, count });
            }
            let mut seen = std::collections::HashSet::with_capacity(entries.len());
            for entry in entries {
                let entry = entry.map()?;
                let name = entry.text("name")?;
                entry.inner(list.singular)?;
                if !seen.insert(name.clone()) {
                    return Err(KubeconfigError::Duplicate { file: self.file.clone(), path: entry.path, name });
                }
            }
        }
        Ok(())
    }

    /// Names that were written as bare numbers or booleans become the strings that kubectl takes them for, so that an entry is
    /// found by its name wherever it is looked for.
    fn quote_names(&mut self) {
        let quote = |value: &mut Value| {
            if value.is_number() || value.is_boolean() {
                *value = Value::String(value.to_string());
            }
        };
        if let Some(current) = self.root.get_mut("current-context") {
            quote(current);
        }
        for list in [CLUSTERS, USERS, CONTEXTS] {
            let entries = self.root.get_mut(list.plural).and_then(Value::as_array_mut);
            for name in entries.into_iter().flatten().filter_map(|entry| entry.get_mut("name")) {
                quote(name);
            }
        }
    }

    fn names(&self, list: List) -> Vec<&str> {
        let entries = self.root.get(list.plural).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        entries.iter().filter_map(|entry| entry.get("name")?.as_str()).collect()
    }

    fn entry(&self, list: List, name: &str) -> Option<Place<'_>> {
        let root = Place::root(&self.root, &self.file);
        root.list(list.plural)
            .ok()?
            .into_iter()
            .filter_map(|entry| entry.map().ok())
            .find(|entry| entry.text("name").is_ok_and(|n| n == name))
            .and_then(|entry| entry.inner(list.singular).ok())
    }

    fn missing(&self, what: &'static str, name: &str, known: &[&str]) -> KubeconfigError {
        let hint = if known.is_empty() {
            format!("the file has no {what}s at all; is it the right one?")
        } else {
            let mut shown: Vec<&str> = known.iter().take(10).copied().collect();
            if known.len() > shown.len() {
                shown.push("…");
            }
            format!("it has {}", shown.join(", "))
        };
        KubeconfigError::Missing { file: self.file.clone(), what, name: name.to_owned(), hint }
    }

    fn set(&mut self, list: List, name: &str, write: impl FnOnce(&mut Map<String, Value>)) {
        let entries = self.root.entry(list.plural).or_insert_with(|| json!([]));
        if !entries.is_array() {
            *entries = json!([]);
        }
        let Value::Array(entries) = entries else { return };
        let at = entries.iter().position(|entry| entry.get("name").and_then(Value::as_str) == Some(name));
        let mut inner = Map::new();
        match at.and_then(|at| entries.get_mut(at)).and_then(Value::as_object_mut) {
            Some(entry) => {
                if let Some(Value::Object(map)) = entry.get_mut(list.singular) {
                    inner = std::mem::take(map);
                }
                write(&mut inner);
                entry.insert(list.singular.to_owned(), Value::Object(inner));
            }
            None => {
                write(&mut inner);
                let mut entry = Map::new();
                // kubectl prints members in alphabetical order: `cluster` and `context` before `name`, `user` after it.
                if list.singular < "name" {
                    entry.insert(list.singular.to_owned(), Value::Object(inner));
                    entry.insert("name".to_owned(), name.into());
                } else {
                    entry.insert("name".to_owned(), name.into());
                    entry.insert(list.singular.to_owned(), Value::Object(inner));
                }
                entries.push(Value::Object(entry));
            }
        }
    }

    fn remove(&mut self, list: List, name: &str) -> bool {
        let Some(Value::Array(entries)) = self.root.get_mut(list.plural) else { return false };
        let before = entries.len();
        entries.retain(|entry| entry.get("name").and_then(Value::as_str) != Some(name));
        entries.len() != before
    }
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("file", &self.file)
            .field("current_context", &self.current_context())
            .field("clusters", &self.cluster_names())
            .field("users", &self.user_names())
            .field("contexts", &self.context_names())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct List {
    plural: &'static str,
    singular: &'static str,
}

const CLUSTERS: List = List { plural: "clusters", singular: "cluster" };
const USERS: List = List { plural: "users", singular: "user" };
const CONTEXTS: List = List { plural: "contexts", singular: "context" };

#[cfg(test)]
mod tests;
