//! Label and field selectors, as lists and watches take them.

pub(crate) mod field;

use portcullis_rbac::field_selector::FieldSelector;
use portcullis_rbac::label_selector::LabelSelector;

use crate::resources::Resource;
use crate::store::object::Object;

/// What a request selects.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: field::FieldSelector,
}

/// Both selectors as they are written.
pub(crate) struct Written {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Written {
    /// Reads both selectors; the error is the message of a 400.
    pub(crate) fn read(labels: &str, fields: &str) -> Result<Self, String> {
        Ok(Self { labels: LabelSelector::parse(labels)?, fields: field::read(fields)? })
    }

    /// What they select of `resource`; the error is the message of a 400.
    pub(crate) fn of(self, resource: &Resource) -> Result<Selection, String> {
        Ok(Selection { labels: self.labels, fields: field::FieldSelector::of(resource, self.fields)? })
    }
}

impl Selection {
    pub(crate) fn everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.labels.matches(|key| object.label(key)) && self.fields.matches(|name| object.field(name))
    }
}
