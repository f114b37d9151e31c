//! Compression, for what is kept compressed: clients that accept gzip get it as it is.
//!
//! Compat: as upstream, `Accept-Encoding` is searched for `gzip` alone, of a quality above zero.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// Whether a client takes gzip, as upstream reads the header.
pub(crate) fn accepted(accept_encoding: &str) -> bool {
    let takes = |part: &str| {
        let (name, params) = part.split_once(';').unwrap_or((part, ""));
        let quality = params.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
        name.trim() == "gzip" && quality.is_ok_and(|quality| quality > 0.0)
    };
    accept_encoding.split(',').any(takes)
}

/// Writing to memory does not fail; if it did, the client would get the bytes as they are.
pub(crate) fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::new(4));
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// What was compressed by this server, at most `limit` bytes.
pub(crate) fn decompress(bytes: &[u8], limit: u64) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let read = GzDecoder::new(bytes).take(limit + 1).read_to_end(&mut out).ok()?;
    (u64::try_from(read).ok()? <= limit).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_a_header_that_names_gzip_gets_it() {
        for (header, want) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0", false),
            ("", false),
            ("identity", false),
            ("*", false),
        ] {
            assert_eq!(accepted(header), want, "{header}");
        }
    }

    #[test]
    fn what_unpacks_to_more_than_the_limit_is_not_given_out() {
        let packed = compress(&[b'a'; 1_000]).unwrap();
        assert!(packed.len() < 100);
        assert_eq!(decompress(&packed, 1_000).unwrap().len(), 1_000);
        assert_eq!(decompress(&packed, 999), None);
        assert_eq!(decompress(b"junk", 10), None);
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            prop_assert_eq!(decompress(&compress(&bytes).unwrap(), 2_000), Some(bytes));
        }
    }
}
