//! Compression of header blocks (SPDY/3.1 draft, section 2.6.10.1): one zlib stream for each direction, for as long as
//! the session lasts, each block closed by a sync flush.
//!
//! Because the stream goes on from block to block, a block that was not read to its end spoils every later one: errors
//! here end the session. Decompression stops at a limit, so that a block that says much with few bytes costs no memory.
//!
//! The state is made with the first block: a connection without streams holds none.

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::dictionary;

/// Why a block could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// It is longer than the limit once decompressed.
    TooLong,
    /// It is no zlib data, breaks off, or names another dictionary.
    Corrupt,
}

/// Bytes decompressed in one step.
const STEP: usize = 4 * 1024;

/// Reads the peer's blocks.
#[derive(Default)]
pub(crate) struct Inflater(Option<Decompress>);

impl Inflater {
    /// Decompresses one block, to at most `limit` bytes.
    pub(crate) fn block(&mut self, mut compressed: &[u8], limit: usize) -> Result<Bytes, InflateError> {
        let mut plain = BytesMut::new();
        if compressed.is_empty() {
            return Ok(plain.freeze());
        }
        let zlib = self.0.get_or_insert_with(|| Decompress::new(true));
        let mut step = [0; STEP];
        loop {
            let (read, written) = (zlib.total_in(), zlib.total_out());
            let status = zlib.decompress(compressed, &mut step, FlushDecompress::Sync);
            let read = usize::try_from(zlib.total_in() - read).unwrap_or(usize::MAX);
            let written = usize::try_from(zlib.total_out() - written).unwrap_or(usize::MAX);
            compressed = compressed.get(read..).unwrap_or_default();
            let fresh = step.get(..written).unwrap_or_default();
            if plain.len() + fresh.len() > limit {
                return Err(InflateError::TooLong);
            }
            plain.extend_from_slice(fresh);
            match status {
                Err(error) if error.needs_dictionary() == Some(dictionary::ID) => {
                    zlib.set_dictionary(&dictionary::BYTES).map_err(|_| InflateError::Corrupt)?;
                }
                Err(_) => return Err(InflateError::Corrupt),
                // A full step may have more behind it, also when all input is read.
                Ok(_) if written == STEP => {}
                Ok(_) if compressed.is_empty() => return Ok(plain.freeze()),
                // Bytes after the end of the stream lead nowhere.
                Ok(_) if read == 0 && written == 0 => return Err(InflateError::Corrupt),
                Ok(_) => {}
            }
        }
    }
}

/// Base-2 logarithm of the window we compress with: room for the dictionary, and half the memory of the largest.
const WINDOW_BITS: u8 = 11;

/// Writes our blocks.
///
/// Values that a stranger chooses share the stream with ours (the CRIME attack): no secret may be sent in a header.
#[derive(Default)]
pub(crate) struct Deflater(Option<Compress>);

impl Deflater {
    /// Compresses one block to the end of `out`. False when zlib failed, after which the stream cannot be used.
    pub(crate) fn block(&mut self, mut plain: &[u8], out: &mut BytesMut) -> bool {
        let zlib = match &mut self.0 {
            Some(zlib) => zlib,
            empty => {
                let mut zlib = Compress::new_with_window_bits(Compression::default(), true, WINDOW_BITS);
                if zlib.set_dictionary(&dictionary::BYTES).is_err() {
                    return false;
                }
                empty.insert(zlib)
            }
        };
        let mut step = [0; STEP];
        loop {
            let (read, written) = (zlib.total_in(), zlib.total_out());
            let status = zlib.compress(plain, &mut step, FlushCompress::Sync);
            let read = usize::try_from(zlib.total_in() - read).unwrap_or(usize::MAX);
            let written = usize::try_from(zlib.total_out() - written).unwrap_or(usize::MAX);
            plain = plain.get(read..).unwrap_or_default();
            out.extend_from_slice(step.get(..written).unwrap_or_default());
            match status {
                Err(_) => return false,
                Ok(_) if written == STEP => {}
                Ok(_) if plain.is_empty() => return true,
                Ok(_) if read == 0 && written == 0 => return false,
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zlib stream written by hand (RFC 1950, 1951): deflate with a 32 KiB window, dictionary id, stored blocks.
    fn stored(first: bool, plain: &[u8]) -> Vec<u8> {
        let mut bytes = if first { vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2] } else { Vec::new() };
        let length = u16::try_from(plain.len()).unwrap();
        bytes.push(0);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(plain);
        bytes
    }

    #[test]
    fn blocks_written_by_hand_are_read_one_after_the_other() {
        let mut inflater = Inflater::default();
        assert_eq!(inflater.block(&stored(true, b"one"), 100).unwrap(), "one");
        assert_eq!(inflater.block(&stored(false, b"two"), 100).unwrap(), "two");
        assert_eq!(inflater.block(&[], 100).unwrap(), "");
    }

    #[test]
    fn what_is_compressed_comes_back_and_later_blocks_are_shorter() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        let plain = b"\0\0\0\x01\0\0\0\x0acontent-md\0\0\0\x05Hello".repeat(300);
        let mut lengths = Vec::new();
        for _ in 0..3 {
            let mut block = BytesMut::new();
            assert!(deflater.block(&plain, &mut block));
            lengths.push(block.len());
            assert_eq!(inflater.block(&block, plain.len()).unwrap(), plain);
        }
        assert!(lengths[1] < lengths[0], "{lengths:?}");
    }

    #[test]
    fn a_block_is_cut_off_at_the_limit() {
        let mut bomb = BytesMut::new();
        assert!(Deflater::default().block(&vec![0; 8 << 20], &mut bomb));
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        assert_eq!(Inflater::default().block(&bomb, 64 << 10), Err(InflateError::TooLong));
        let mut exact = BytesMut::new();
        assert!(Deflater::default().block(&vec![0; STEP * 2], &mut exact));
        assert!(Inflater::default().block(&exact, STEP * 2).is_ok());
        assert_eq!(Inflater::default().block(&exact, STEP * 2 - 1), Err(InflateError::TooLong));
    }

    #[test]
    fn other_dictionaries_other_data_and_data_after_the_end_are_corrupt() {
        let mut other = stored(true, b"x");
        other[5] ^= 1;
        assert_eq!(Inflater::default().block(&other, 100), Err(InflateError::Corrupt));
        assert_eq!(Inflater::default().block(b"GET / HTTP/1.1", 100), Err(InflateError::Corrupt));
        let mut ended = stored(true, b"x");
        ended[6] = 1;
        let sum = u32::from_be_bytes([0, 0x79, 0, 0x79]);
        ended.extend_from_slice(&sum.to_be_bytes());
        let mut inflater = Inflater::default();
        assert_eq!(inflater.block(&ended, 100).unwrap(), "x");
        assert_eq!(inflater.block(&stored(false, b"y"), 100), Err(InflateError::Corrupt));
    }
}
