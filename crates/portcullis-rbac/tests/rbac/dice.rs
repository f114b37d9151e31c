//! Random choices that a seed repeats.

use portcullis_testkit::Rng;

/// Makes choices.
pub(crate) struct Dice(Rng);

impl Dice {
    /// Fresh, or those of `PORTCULLIS_SEED`; the seed is printed.
    #[expect(clippy::disallowed_methods, reason = "a failed run is repeated by its seed")]
    pub(crate) fn roll() -> Self {
        let given =
            std::env::var("PORTCULLIS_SEED").ok().map(|seed| seed.parse().expect("PORTCULLIS_SEED is a number"));
        let seed = given.unwrap_or_else(|| u64::from_le_bytes(Rng::system().bytes()));
        println!("PORTCULLIS_SEED={seed}");
        Self(Rng::seeded(seed))
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: usize) -> usize {
        self.0.below(u32::try_from(bound).unwrap()) as usize
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// One of a list.
    pub(crate) fn pick<'a, T>(&self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// One word of a list.
    pub(crate) fn word(&self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len())]
    }

    /// One text of a list.
    pub(crate) fn text(&self, list: &[&str]) -> String {
        (*self.pick(list)).to_owned()
    }

    /// Between `least` and `most` texts of a list, each once.
    pub(crate) fn some(&self, list: &[&str], least: usize, most: usize) -> Vec<String> {
        let wanted = least + self.below(most - least + 1);
        let mut left: Vec<&str> = list.to_vec();
        (0..wanted.min(list.len())).map(|_| left.swap_remove(self.below(left.len())).to_owned()).collect()
    }
}
