//! How a viewer reads the log, and what it sends at the end of the log.

use super::*;

/// The error if the log is shorter than the output that was counted.
const SHORT: &str = "its log ends there, and more was written";

impl Viewer {
    /// Reads the next piece of the log, if there is room for it.
    pub(super) fn read_on(&mut self) {
        if let Some(to) = self.dropped_to
            && self.send_buffer.unsent() == 0
        {
            self.dropped_to = None;
            self.send_buffer.skip(to);
        }
        let is_at_it = self.reader.is_none() || self.look.waits();
        let stops = self.dropped_to.is_some() || self.farewell.is_some() || self.send_buffer.is_closing();
        let room = self.send_buffer.room();
        if is_at_it || stops || room == 0 || self.send_buffer.unsent() >= HANDED_ON {
            return;
        }
        self.look.begins();
        // Read the progress before the log: if the job has ended, the log is complete.
        let news = self.begin.news.borrow_and_update().clone();
        let (is_last, at) = (news.ended.is_some(), self.send_buffer.read().sum());
        // The responder and size are known for all output up to here.
        let known = if is_last { u64::MAX } else { news.totals.sum().saturating_sub(at) };
        self.tell_sizes(&news);
        if known == 0 {
            return self.look.found_nothing();
        }
        let Some(mut reader) = self.reader.take() else { return };
        self.tell_asked(&news);
        let most = usize::try_from(room.min(known)).unwrap_or(OUTPUT_MAX).min(OUTPUT_MAX);
        let log = self.begin.log.clone();
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let piece = reader.read(at, most);
            let is_gone = matches!(piece, Ok(Piece::End)) && !log.exists();
            Done { reader, at, is_last, is_gone, piece }
        }));
    }

    /// Reports the responder before the first byte it applies to.
    fn tell_asked(&mut self, news: &Progress) {
        let asked = news.asked(&self.begin.inbox);
        if let Some(told) = &asked
            && asked != self.asked
        {
            self.send_buffer.control(FrameKind::Asked, decode::to_json(told).into());
            self.asked = asked;
        }
    }

    /// Reports the terminal size before the first byte it applies to.
    fn tell_sizes(&mut self, news: &Progress) {
        let last = news.sizes.last().copied();
        if last.is_some() && last != self.sized {
            let sizes = Sizes { sizes: news.sizes.to_vec() };
            self.send_buffer.control(FrameKind::Sized, decode::to_json(&sizes).into());
            self.sized = last;
        }
    }

    pub(super) fn on_read(&mut self, done: Result<Done, JoinError>) {
        let Ok(Done { reader, at, is_last, is_gone, piece }) = done else {
            self.farewell = Some(self.unreadable("reading it failed inside the daemon"));
            return;
        };
        self.reader = Some(reader);
        if at != self.send_buffer.read().sum() {
            // The viewer has resumed elsewhere in the meantime.
            return;
        }
        match piece {
            Ok(Piece::Bytes { stream, offset, bytes }) if offset == self.send_buffer.read().of(stream) => {
                self.look.found();
                self.send_buffer.push(stream, bytes);
            }
            Ok(Piece::Bytes { .. }) => {
                self.farewell = Some(self.unreadable("what was received is not what the log has"));
            }
            Ok(Piece::Dropped { to }) => self.dropped_to = Some(to),
            Ok(Piece::End) if is_last => self.close(is_gone),
            // The progress says that there is more data, so an end here is an error.
            Ok(Piece::End) if self.look.fails(Instant::now()) => {}
            Ok(Piece::End) => self.farewell = Some(self.unreadable(SHORT)),
            Err(error) if self.look.fails(Instant::now()) => {
                tracing::warn!(job = %self.begin.id, %error, "reading the log of a job");
            }
            Err(error) => self.farewell = Some(self.unreadable(&error.to_string())),
        }
    }

    /// Logs why the viewer gets no more data, and returns the message for it.
    pub(super) fn unreadable(&self, why: &str) -> String {
        let Begin { id, inbox, .. } = &self.begin;
        let at = self.send_buffer.read().sum();
        tracing::error!(job = %id, inbox, at, why, "dropped a viewer: the log of a job cannot be read");
        let state = match &self.begin.news.borrow().ended {
            Some(result) => format!("the job has ended: {}", result.ending),
            None => "the job goes on".to_owned(),
        };
        format!("the output of {id} cannot be read from byte {at} on: {why}; {state}")
    }

    /// Sends the result after all data. If the log is gone, the output that was counted but not read is no longer
    /// kept.
    fn close(&mut self, is_gone: bool) {
        let Some(result) = self.begin.news.borrow().ended.clone() else { return };
        let read = self.send_buffer.read().sum();
        let counted = result.out.as_ref().zip(result.err.as_ref());
        let counted = counted.map(|(out, err)| StreamOffsets { out: out.bytes, err: err.bytes });
        if let Some(totals) = counted.filter(|totals| totals.sum() > read) {
            match is_gone {
                true => self.dropped_to = Some(totals),
                false => self.farewell = Some(self.unreadable(SHORT)),
            }
            return;
        }
        let result = JobResult { collected: None, ..(*result).clone() };
        self.send_buffer.close(decode::to_json(&result).into());
    }
}
