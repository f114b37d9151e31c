//! Random cases, each with the names of what it is about, so that every feature is met often enough.

mod json;
mod merge;
mod strategic;
mod text;

use std::collections::BTreeMap;

use crate::oracle::{Case, Op};

/// Each feature is met at least so often.
pub(crate) const AT_LEAST: usize = 100;

/// Random numbers from a seed (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).expect("64 bits")).expect("64 bits")
    }

    /// True so many times in a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A case in the making.
pub(crate) struct Draft<'r> {
    pub(crate) random: &'r mut Random,
    /// The feature that this case is to show.
    wanted: Option<&'static str>,
    features: Vec<&'static str>,
}

impl Draft<'_> {
    /// Whether to do `feature` here: always when it is what the case is for and was not done yet, else so many times in
    /// a hundred.
    pub(crate) fn hit(&mut self, feature: &'static str, percent: usize) -> bool {
        let due = self.wanted == Some(feature) && !self.features.contains(&feature);
        let hit = if due { self.random.chance(60) } else { self.random.chance(percent) };
        if hit {
            self.note(feature);
        }
        hit
    }

    /// Whether the case is for `feature`, which the maker then notes itself.
    pub(crate) fn is_for(&self, feature: &str) -> bool {
        self.wanted == Some(feature)
    }

    pub(crate) fn note(&mut self, feature: &'static str) {
        if !self.features.contains(&feature) {
            self.features.push(feature);
        }
    }
}

/// So many cases of each kind of patch (JSON, merge, strategic), and more until each feature was met often enough.
pub(crate) fn cases(random: &mut Random, sizes: [usize; 3]) -> Vec<Case> {
    let mut all = Vec::new();
    let ops = [(Op::Json, json::FEATURES), (Op::Merge, merge::FEATURES), (Op::Strategic, strategic::FEATURES)];
    for ((op, features), each) in ops.into_iter().zip(sizes) {
        let mut counts: BTreeMap<&'static str, usize> = features.iter().map(|feature| (*feature, 0)).collect();
        let mut made = 0;
        loop {
            let lacking: Vec<&'static str> =
                counts.iter().filter(|(_, count)| **count < AT_LEAST).map(|(feature, _)| *feature).collect();
            if made >= each && lacking.is_empty() {
                break;
            }
            assert!(made < 20 * each.max(1_000), "{op:?}: {lacking:?} are met too seldom in {made} cases");
            let pressing = !lacking.is_empty() && random.chance(70);
            let wanted = random.chance(75).then(|| random.pick(if pressing { &lacking } else { features }));
            let mut draft = Draft { random, wanted, features: Vec::new() };
            let (kind, document, patch) = match op {
                Op::Json => json::draft(&mut draft),
                Op::Merge => merge::draft(&mut draft),
                Op::Strategic => strategic::draft(&mut draft),
            };
            let features = draft.features;
            let report = random.chance(50);
            for feature in &features {
                *counts.get_mut(feature).unwrap_or_else(|| panic!("{feature} is not listed")) += 1;
            }
            all.push(Case { op, kind, document, patch, report, features });
            made += 1;
        }
    }
    all
}
