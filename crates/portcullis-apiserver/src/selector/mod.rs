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

#[cfg(test)]
mod tests {
    //! `golden` holds what apimachinery 0.37.2 makes of random selectors: how it prints them, the beginning of what it says to
    //! those that it refuses, and which of the sets in the first line each lets through.

    use serde_json::Value;

    use portcullis_rbac::label_selector::LabelSelector;

    use super::field::FieldSelector;
    use crate::resources::check::labels;
    use crate::resources::pods;
    use crate::resources::tree::Members;

    /// Compares how each selector is printed or refused, and its verdicts; how many were accepted.
    fn compare<S>(
        golden: &str,
        read: impl Fn(&str) -> Result<(S, String), String>,
        selects: impl Fn(&S, &Members) -> bool,
    ) -> usize {
        let mut lines = golden.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let sets = lines.next().unwrap()["sets"].as_array().unwrap().clone();
        let mut accepted = 0;
        for line in lines {
            let text = |name: &str| line[name].as_str().unwrap_or_default();
            let (selector, printed) = match read(text("in")) {
                Ok(read) => read,
                Err(why) => {
                    assert!(!text("err").is_empty() && why.starts_with(text("err")), "{line}: {why}");
                    continue;
                }
            };
            let verdict = |set: &Value| if selects(&selector, set.as_object().unwrap()) { '1' } else { '0' };
            let verdicts: String = sets.iter().map(verdict).collect();
            assert_eq!((printed.as_str(), verdicts.as_str(), ""), (text("out"), text("on"), text("err")), "{line}");
            accepted += 1;
        }
        accepted
    }

    fn value<'s>(set: &'s Members, name: &str) -> Option<&'s str> {
        set.get(name).and_then(Value::as_str)
    }

    #[test]
    fn label_selectors_are_read_printed_and_obeyed_as_upstreams_are() {
        let read = |text: &str| LabelSelector::parse(text).map(|selector| (selector.clone(), selector.to_string()));
        let selects = |selector: &LabelSelector, set: &Members| selector.matches(|key| value(set, key));
        let accepted = compare(include_str!("golden/labels.jsonl"), read, selects);
        assert!(accepted > 100, "{accepted}");
    }

    #[test]
    fn field_selectors_are_read_printed_and_obeyed_as_upstreams_are() {
        let read = |text: &str| {
            let selector = FieldSelector::parse(pods(), text)?;
            let printed = selector.to_string();
            Ok((selector, printed))
        };
        let selects = |selector: &FieldSelector, set: &Members| selector.matches(|name| value(set, name).unwrap_or(""));
        let accepted = compare(include_str!("golden/fields.jsonl"), read, selects);
        assert!(accepted > 100, "{accepted}");
    }

    #[test]
    fn selectors_of_objects_are_printed_and_obeyed_as_upstreams_are() {
        let read = |text: &str| {
            let selector: Value = serde_json::from_str(text).unwrap();
            match labels::format(&selector).as_str() {
                "<error>" => Err("<error>".to_owned()),
                printed => Ok((selector, printed.to_owned())),
            }
        };
        // No selector lets nothing through, which is for the kind to say.
        let selects = |selector: &Value, set: &Members| !selector.is_null() && labels::matches(selector, set);
        let accepted = compare(include_str!("golden/structured.jsonl"), read, selects);
        assert!(accepted > 60, "{accepted}");
    }
}
