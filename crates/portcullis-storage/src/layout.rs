//! The number of a store's layout, where no table of migrations tells it (etcd, Kubernetes).
//!
//! The first program to open a store writes its number. A newer one that changes the layout writes its own, and after a blank
//! the oldest number whose programs can use the store all the same (`2 1`); any other newer store is refused.

/// Why a store cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// A newer program has this number, and says that older ones cannot use the store.
    Newer { found: u64 },
    /// No program of ours has written this.
    Foreign,
}

/// Whether a program whose last number is `known` can use a store that says this.
pub(crate) fn check(value: &[u8], known: u64) -> Result<(), Unfit> {
    let text = std::str::from_utf8(value).map_err(|_| Unfit::Foreign)?;
    let (found, needs) = text.split_once(' ').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0).ok_or(Unfit::Foreign);
    let (found, needs) = (number(found)?, number(needs)?);
    if needs > known { Err(Unfit::Newer { found }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_or_foreign_number_is_refused() {
        assert_eq!(check(b"1", 1), Ok(()));
        assert_eq!(check(b"2", 1), Err(Unfit::Newer { found: 2 }));
        assert_eq!((check(b"2 1", 1), check(b"3 2", 1)), (Ok(()), Err(Unfit::Newer { found: 3 })));
        for value in
            [&b"2 "[..], b" 1", b"1 x", b"2 1 1", b"", b"0", b"-1", b"x", b"{}", b"\xff", b"99999999999999999999999"]
        {
            assert_eq!(check(value, 1), Err(Unfit::Foreign), "{value:?}");
        }
    }
}
