//! The steps of a SQL store's schema: forward only, each applied once, by whichever program comes first.
//!
//! A store that a newer program has migrated is used when that program's steps say that this one can, and refused otherwise.

/// A step of the schema. One that was released is never changed.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "conformance"),
    expect(unreachable_pub, reason = "only the suite gives the list from outside")
)]
pub struct Migration {
    /// What it makes.
    pub name: &'static str,
    /// The oldest schema whose programs can use the store afterwards: so that replicas are upgraded one after the other, a
    /// migration takes nothing away that its predecessor's programs read or write.
    pub needs: i64,
    /// What is carried out, in order.
    pub statements: &'static [&'static str],
}

/// The steps that a program knows, in order; the first has number 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migrations {
    ours: &'static [Migration],
    /// Those of a program after this one: for tests.
    later: &'static [Migration],
}

/// A newer program has migrated the store, and its steps need more than is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newer {
    pub(crate) found: i64,
    pub(crate) known: i64,
}

impl Migrations {
    pub(crate) const fn new(ours: &'static [Migration]) -> Self {
        Self { ours, later: &[] }
    }

    /// What a program after this one would know.
    #[cfg(any(test, feature = "conformance"))]
    pub(crate) const fn and_later(self, later: &'static [Migration]) -> Self {
        Self { later, ..self }
    }

    /// The number of the last one.
    pub(crate) const fn number(self) -> i64 {
        (self.ours.len() + self.later.len()) as i64
    }

    /// The steps after the one with the number `found`, with their numbers.
    pub(crate) fn missing(self, found: i64) -> impl Iterator<Item = (i64, &'static Migration)> {
        (1..).zip(self.ours.iter().chain(self.later)).filter(move |(number, _)| *number > found)
    }

    /// Whether a newer program has migrated the store. Then it is asked what its steps need.
    pub(crate) const fn is_newer(self, found: i64) -> bool {
        found > self.number()
    }

    /// Refuses a store of a newer program whose steps need more than is known here.
    pub(crate) fn check_needs(self, found: i64, needs: i64) -> Result<(), Newer> {
        let known = self.number();
        if needs > known {
            return Err(Newer { found, known });
        }
        tracing::info!(
            schema = found,
            known,
            "a newer version of this program has migrated the store; this one can use it"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration = Migration { name: "one", needs: 1, statements: &[] };
    const ALL: Migrations = Migrations::new(&[ONE]).and_later(&[Migration { name: "two", needs: 1, statements: &[] }]);

    #[test]
    fn only_what_is_missing_is_applied() {
        let names = |found| ALL.missing(found).map(|(n, m)| (n, m.name)).collect::<Vec<_>>();
        assert_eq!(names(0), [(1, "one"), (2, "two")]);
        assert_eq!(names(1), [(2, "two")]);
        assert_eq!(names(2), []);
        assert_eq!(names(3), []);
    }

    #[test]
    fn a_newer_store_is_used_when_its_migrations_allow_it() {
        assert!(!ALL.is_newer(2) && ALL.is_newer(3));
        assert!(ALL.check_needs(3, 2).is_ok() && ALL.check_needs(3, 1).is_ok());
        assert_eq!(ALL.check_needs(4, 3), Err(Newer { found: 4, known: 2 }));
    }
}
