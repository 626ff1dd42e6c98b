//! A segment as a start reads it: a piece of it in memory at a time, whatever its length is. Holes and zeros, such as a
//! crash may leave at the end of a file, are passed over quickly.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// So much is read at once. A record that is larger is in memory as a whole, once its checksum was found right.
const PIECE_BYTES: usize = 1 << 20;

/// An open segment.
pub(crate) struct Pieces {
    file: File,
    bytes: u64,
    piece: Vec<u8>,
    /// Where in the segment the piece begins.
    begin: u64,
}

impl Pieces {
    pub(crate) fn of(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes, piece: Vec::new(), begin: 0 })
    }

    /// Takes in what was appended since.
    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        self.bytes = self.file.metadata()?.len();
        // A piece that ended with the segment as it was says nothing of what is behind it.
        self.piece.clear();
        Ok(())
    }

    /// How long the segment was when it was opened, or looked at again.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What stands from a place on: at least so many bytes (of which a piece is the most), fewer only at the end.
    pub(crate) fn from(&mut self, place: u64, bytes_min: usize) -> io::Result<&[u8]> {
        debug_assert!(bytes_min <= PIECE_BYTES, "no piece is so long");
        let left = self.bytes.saturating_sub(place);
        let wanted = left.min(bytes_min as u64);
        let end = self.begin + self.piece.len() as u64;
        if place < self.begin || place + wanted > end {
            // A piece that can't be read must not pass for one that was.
            self.piece.clear();
            let mut piece = std::mem::take(&mut self.piece);
            piece.resize(left.min(PIECE_BYTES as u64) as usize, 0);
            self.file.read_exact_at(&mut piece, place)?;
            (self.piece, self.begin) = (piece, place);
        }
        let skipped = usize::try_from(place - self.begin).unwrap_or(usize::MAX).min(self.piece.len());
        Ok(&self.piece[skipped..])
    }

    /// The checksum of a part.
    pub(crate) fn crc(&mut self, part: Range<u64>) -> io::Result<u32> {
        let (mut place, mut crc) = (part.start, 0);
        // A part that fits is read at once, so that it is still there when it is wanted.
        let mut bytes_min = usize::try_from(part.end - part.start).unwrap_or(usize::MAX).min(PIECE_BYTES);
        while place < part.end {
            let bytes = within(self.from(place, bytes_min)?, part.end - place);
            crc = crc32c::crc32c_append(crc, bytes);
            place += bytes.len() as u64;
            bytes_min = 1;
        }
        Ok(crc)
    }

    /// A copy of a part.
    pub(crate) fn read(&mut self, part: Range<u64>) -> io::Result<Vec<u8>> {
        let bytes = usize::try_from(part.end - part.start).map_err(io::Error::other)?;
        if bytes <= PIECE_BYTES {
            return Ok(within(self.from(part.start, bytes)?, bytes as u64).to_vec());
        }
        let mut read = vec![0; bytes];
        self.file.read_exact_at(&mut read, part.start)?;
        Ok(read)
    }

    /// How many zeros stand from a place on.
    pub(crate) fn zeros_from(&mut self, place: u64) -> io::Result<u64> {
        let mut end = place;
        while end < self.bytes {
            let bytes = self.from(end, 1)?;
            if let Some(zeros) = bytes.iter().position(|&byte| byte != 0) {
                return Ok(end + zeros as u64 - place);
            }
            end += bytes.len() as u64;
            end = self.end_of_hole(end)?;
        }
        Ok(end - place)
    }

    /// Where the hole ends that a place is in, which the disk does not hold; the place itself if it is in none.
    fn end_of_hole(&self, place: u64) -> io::Result<u64> {
        match seek(&self.file, SeekFrom::Data(place)) {
            Ok(data) => Ok(data.clamp(place, self.bytes)),
            // Nothing but a hole is left.
            Err(Errno::NXIO) => Ok(self.bytes),
            // Not every file system tells.
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(place),
            Err(error) => Err(error.into()),
        }
    }
}

fn within(bytes: &[u8], at_most: u64) -> &[u8] {
    &bytes[..usize::try_from(at_most).unwrap_or(usize::MAX).min(bytes.len())]
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    /// A segment of these bytes.
    pub(crate) fn pieces_of(bytes: &[u8]) -> Pieces {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), bytes).expect("it can be written");
        Pieces::of(File::open(file.path()).expect("it is there")).expect("it can be looked at")
    }

    #[test]
    fn parts_are_read_wherever_pieces_end() {
        let bytes: Vec<u8> = (0..PIECE_BYTES as u64 * 5 / 2).map(|at| (at * at % 251) as u8).collect();
        let mut pieces = pieces_of(&bytes);
        let (piece, end) = (PIECE_BYTES as u64, bytes.len() as u64);
        let parts = [0..1, piece - 1..piece + 1, 5..piece + 5, 0..end, piece / 2..piece * 2 + 9, end - 1..end, 3..3];
        for part in parts {
            let expected = &bytes[part.start as usize..part.end as usize];
            assert_eq!(pieces.read(part.clone()).expect("can be read"), expected, "{part:?}");
            assert_eq!(pieces.crc(part.clone()).expect("can be read"), crc32c::crc32c(expected), "{part:?}");
        }
        assert_eq!(pieces.from(end - 3, 20).expect("can be read"), &bytes[bytes.len() - 3..]);
        assert_eq!(pieces.from(end, 20).expect("can be read"), b"");
    }

    #[test]
    fn zeros_are_counted_in_holes_and_outside() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let (hole, end) = (PIECE_BYTES as u64 * 3 + 5, PIECE_BYTES as u64 * 4);
        file.as_file().write_all_at(&[1, 0, 0], 0).expect("it can be written");
        file.as_file().write_all_at(&[7], hole).expect("it can be written");
        file.as_file().set_len(end).expect("it can be made longer");
        let mut pieces = Pieces::of(file.reopen().expect("it is there")).expect("it can be looked at");
        let cases = [(0, 0), (1, hole - 1), (9, hole - 9), (hole, 0), (hole + 1, end - hole - 1), (end, 0)];
        for (place, zeros) in cases {
            assert_eq!(pieces.zeros_from(place).expect("can be read"), zeros, "from {place}");
        }
    }
}
