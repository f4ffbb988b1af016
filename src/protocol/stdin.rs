//! The receiver of standard input, as pure rules: it joins one writer's chunks by offset, and grants
//! credit for what the command can take.

use bytes::Bytes;

use super::frame::StdinCredit;

/// Most bytes that the job's own caller may send ahead of the command.
pub const WINDOW: u64 = 256 * 1024;

/// The same for each other writer to a durable job; smaller, so that together they cannot fill the
/// memory.
pub const WINDOW_OF_OTHERS: u64 = 32 * 1024;

/// The input of one writer.
#[derive(Debug)]
pub struct StdinReassembler {
    window: u64,
    received: u64,
    written: u64,
    granted: u64,
    ended: bool,
    /// Offset from which the writer was asked to resend. Asked once per gap, because all chunks in
    /// flight behind it show the same gap. If that message is lost, the writer's timer resends.
    asked_from: Option<u64>,
    /// Whether the command may take more.
    open: bool,
}

impl StdinReassembler {
    /// A receiver whose writer may be `window` bytes ahead.
    #[must_use]
    pub fn expected(window: u64) -> Self {
        Self { window, received: 0, written: 0, granted: 0, ended: false, asked_from: None, open: true }
    }

    /// Bytes received without a gap.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether the writer has sent the end of file.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// The credit to send now.
    pub fn want(&mut self) -> StdinCredit {
        self.granted = self.written + self.window;
        let closed = !self.open || self.ended;
        StdinCredit { received: self.received, limit: self.granted, again: false, closed }
    }

    /// Whether enough was written since the last credit to send a new one.
    #[must_use]
    pub fn want_is_due(&self) -> bool {
        self.open && !self.ended && self.written + self.window >= self.granted + self.window / 4
    }

    /// Takes a chunk; an empty one is the end of file. Returns its new bytes, and the credit to send.
    pub fn take(&mut self, offset: u64, bytes: &Bytes) -> (Bytes, StdinCredit) {
        let hole = offset > self.received;
        let takes = self.open && !self.ended;
        let fresh = if takes && !hole { self.join(offset, bytes) } else { Bytes::new() };
        let again = hole && takes && self.asked_from != Some(self.received);
        if again {
            self.asked_from = Some(self.received);
        }
        (fresh, StdinCredit { again, ..self.want() })
    }

    fn join(&mut self, offset: u64, bytes: &Bytes) -> Bytes {
        if bytes.is_empty() {
            self.ended |= offset == self.received;
        }
        let known = usize::try_from(self.received - offset).unwrap_or(usize::MAX).min(bytes.len());
        let room = usize::try_from(self.written + self.window - self.received).unwrap_or_default();
        let fresh = &bytes[known..];
        // Reject bytes beyond the credit; the writer resends them later.
        let fresh = &fresh[..fresh.len().min(room)];
        self.received += fresh.len() as u64;
        // Copy, so that a few new bytes do not keep a whole message in memory.
        Bytes::copy_from_slice(fresh)
    }

    /// Records that the command received `count` new bytes.
    pub fn wrote(&mut self, count: u64) {
        self.written += count;
    }

    /// Stops accepting input.
    pub fn close(&mut self) {
        self.open = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlaps_are_dropped_and_holes_are_asked_for() {
        let mut stdin = StdinReassembler::expected(WINDOW);
        let mut joined = Vec::new();
        let mut take = |offset, bytes: &'static [u8]| {
            let (fresh, want) = stdin.take(offset, &Bytes::from_static(bytes));
            joined.extend_from_slice(&fresh);
            want
        };
        assert_eq!(take(0, b"abc").received, 3);
        let want = take(5, b"fg");
        assert!(want.again && want.received == 3);
        let want = take(1, b"bcde");
        assert!(!want.again && want.received == 5);
        assert!(!take(4, b"").closed, "an end before the end is none");
        assert!(take(5, b"").closed);
        assert_eq!(take(5, b"late").received, 5);
        assert_eq!(joined, b"abcde");
    }

    #[test]
    fn a_hole_is_asked_for_once() {
        let mut stdin = StdinReassembler::expected(WINDOW);
        let chunk = Bytes::from_static(b"x");
        let asked = (1..100).filter(|offset| stdin.take(*offset, &chunk).1.again).count();
        assert_eq!(asked, 1, "each would have everything sent again");
        stdin.take(0, &chunk);
        assert!(stdin.take(5, &chunk).1.again, "another hole");
    }

    #[test]
    fn a_fresh_byte_does_not_keep_its_message() {
        let mut stdin = StdinReassembler::expected(WINDOW);
        let message = Bytes::from(vec![7; 1000]);
        let _held = (stdin.take(0, &message.slice(..999)), stdin.take(0, &message));
        assert!(message.is_unique(), "nothing else holds on to the message");
    }

    #[test]
    fn nothing_beyond_the_grant_is_taken() {
        let mut stdin = StdinReassembler::expected(WINDOW);
        let much = Bytes::from(vec![7; 300 * 1024]);
        assert_eq!(stdin.take(0, &much).1.received, WINDOW);
        stdin.wrote(WINDOW);
        assert!(stdin.want_is_due());
        assert_eq!(stdin.take(WINDOW, &much).1.received, 2 * WINDOW);
    }
}
