//! The names and formats that writer and readers of segments share.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::send_buffer::StreamOffsets;

/// Two numbers: the bytes of each stream before the segment.
pub(super) const HEADER_BYTES: u64 = 16;

/// One number.
pub(super) const RECORD_BYTES: u64 = 8;

/// Digits of a name: enough for any offset, so that names sort like offsets.
const NAME_DIGITS: usize = 20;

/// The start of a run of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// The combined offset of its first byte.
    pub(super) start: u64,
    pub(super) stream: StreamKind,
}

impl Record {
    pub(super) fn to_bytes(self) -> [u8; RECORD_BYTES as usize] {
        ((self.start << 1) | self.stream as u64).to_le_bytes()
    }

    pub(super) fn of_bytes(bytes: [u8; RECORD_BYTES as usize]) -> Self {
        let number = u64::from_le_bytes(bytes);
        let stream = if number & 1 == 0 { StreamKind::Out } else { StreamKind::Err };
        Self { start: number >> 1, stream }
    }
}

/// The file with the bytes of the segment at this combined offset.
pub(super) fn bytes_path(directory: &Path, start: u64) -> PathBuf {
    directory.join(format!("{start:0NAME_DIGITS$}"))
}

/// The file that says which stream these bytes belong to.
pub(super) fn runs_path(directory: &Path, start: u64) -> PathBuf {
    directory.join(format!("{start:0NAME_DIGITS$}.runs"))
}

/// The start offsets of the existing segments, in order.
///
/// # Errors
/// When the directory exists but cannot be read.
pub(super) fn starts(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut starts = Vec::new();
    for entry in entries {
        starts.extend(entry?.file_name().to_str().and_then(start_of));
    }
    starts.sort_unstable();
    Ok(starts)
}

fn start_of(name: &str) -> Option<u64> {
    let is_one = name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_digit());
    is_one.then(|| name.parse().ok()).flatten()
}

pub(super) fn header(totals: StreamOffsets) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..8].copy_from_slice(&totals.out.to_le_bytes());
    header[8..].copy_from_slice(&totals.err.to_le_bytes());
    header
}

/// The bytes of each stream before a segment.
pub(super) fn read_header(runs: &File) -> io::Result<StreamOffsets> {
    let (mut out, mut err) = ([0; 8], [0; 8]);
    runs.read_exact_at(&mut out, 0)?;
    runs.read_exact_at(&mut err, 8)?;
    Ok(StreamOffsets { out: u64::from_le_bytes(out), err: u64::from_le_bytes(err) })
}
