//! Randomness as a value: the operating system's generator, or a seeded one for tests.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A source of random bytes. Cheap to clone; clones of a seeded one share its sequence.
#[derive(Clone)]
pub struct Rng(Source);

#[derive(Clone)]
enum Source {
    System(SystemRandom),
    Seeded { seed: u64, counter: Arc<AtomicU64> },
}

impl Rng {
    /// The cryptographic generator, seeded by the operating system.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System(SystemRandom::new()))
    }

    /// A reproducible sequence. For tests only: whoever knows the seed knows every secret made from it.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded { seed, counter: Arc::new(AtomicU64::new(0)) })
    }

    /// Fills `out` with random bytes.
    ///
    /// Without a working generator no secret of this process is safe, and there is no error that a caller could
    /// handle: the process is aborted.
    pub fn fill(&self, out: &mut [u8]) {
        match &self.0 {
            Source::System(random) => {
                if random.fill(out).is_err() {
                    tracing::error!("the system's random generator failed; aborting");
                    std::process::abort();
                }
            }
            Source::Seeded { seed, counter } => {
                for chunk in out.chunks_mut(digest::SHA256_OUTPUT_LEN) {
                    let mut context = digest::Context::new(&digest::SHA256);
                    context.update(&seed.to_be_bytes());
                    context.update(&counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
                    let block = context.finish();
                    for (to, from) in chunk.iter_mut().zip(block.as_ref()) {
                        *to = *from;
                    }
                }
            }
        }
    }

    /// `N` random bytes.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A random number below `bound`; 0 when `bound` is 0. For jitter, not for secrets: it is biased by at most 2⁻³².
    #[must_use]
    pub fn below(&self, bound: u32) -> u32 {
        let wide = u64::from_be_bytes(self.bytes());
        u32::try_from(wide % u64::from(bound.max(1))).unwrap_or(0)
    }

    /// A random UUID, version 4 (RFC 9562 section 5.4), in lower case.
    #[must_use]
    pub fn uuid_v4(&self) -> String {
        let bits = u128::from_be_bytes(self.bytes());
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }

    /// `bytes` random bytes (at most 1024) in base64url without padding.
    #[must_use]
    pub fn token(&self, bytes: usize) -> String {
        let mut raw = zeroize::Zeroizing::new(vec![0; bytes.min(1024)]);
        self.fill(&mut raw);
        URL_SAFE_NO_PAD.encode(raw.as_slice())
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System(_) => "Rng(system)",
            Source::Seeded { .. } => "Rng(seeded)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence_and_another_seed_another() {
        let (a, b, c) = (Rng::seeded(7), Rng::seeded(7), Rng::seeded(8));
        let first: [u8; 48] = a.bytes();
        assert_eq!(first, b.bytes::<48>());
        assert_ne!(first, c.bytes::<48>());
        assert_ne!(first, a.bytes::<48>(), "the sequence goes on");
    }

    #[test]
    fn clones_share_the_sequence() {
        let a = Rng::seeded(1);
        let b = a.clone();
        assert_ne!(a.bytes::<16>(), b.bytes::<16>());
    }

    #[test]
    fn uuids_have_version_4_and_the_rfc_variant() {
        for rng in [Rng::seeded(3), Rng::system()] {
            for _ in 0..64 {
                let uuid = rng.uuid_v4();
                let bytes = uuid.as_bytes();
                assert_eq!(bytes.len(), 36, "{uuid}");
                assert_eq!(bytes[14], b'4', "{uuid}");
                assert!(b"89ab".contains(&bytes[19]), "{uuid}");
                assert_eq!(uuid.matches('-').count(), 4, "{uuid}");
            }
        }
    }

    #[test]
    fn tokens_are_base64url_of_the_asked_length_and_bounded() {
        let rng = Rng::seeded(9);
        assert_eq!(rng.token(32).len(), 43);
        assert_eq!(rng.token(0), "");
        assert_eq!(URL_SAFE_NO_PAD.decode(rng.token(usize::MAX)).unwrap().len(), 1024);
    }

    #[test]
    fn below_stays_below() {
        let rng = Rng::seeded(1);
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.below(1), 0);
        assert!((0..200).all(|_| rng.below(7) < 7));
        assert!((0..7).all(|want| (0..500).any(|_| rng.below(7) == want)));
    }

    #[test]
    fn the_system_generator_does_not_repeat() {
        assert_ne!(Rng::system().bytes::<32>(), Rng::system().bytes::<32>());
    }
}
