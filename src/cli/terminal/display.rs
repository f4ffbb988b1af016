//! The local screen: the command's output, and sometimes a line of `d`'s own.
//!
//! If the local terminal has the session's size, the output is shown as it is. Otherwise a [`View`]
//! of the screen is shown. For that, this module tracks the screen like the shim, so that it can
//! redraw after a line of `d`'s own and reset the terminal at the end.
//!
//! Guarantees: the screen's earlier content is in the scrollback or is restored.

use std::io::IsTerminal;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::keyboard::LAST_QUESTION;
use crate::exec::{Writer, Written};
use crate::output;
use peerbus_client::exec::ExecutionHandle;
use peerbus_protocol::attach::{Responder, Sizes};
use peerbus_protocol::frame::StreamKind;
use peerbus_protocol::{PeerId, TtySize};
use peerbus_screen::{QueryFilter, Screen, View};

/// An outage of the peer shorter than this is not reported on the screen.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// Timeout for pending output when `d` is ended.
const STANDS_STILL: Duration = Duration::from_secs(2);

/// Minimum pause between two redraws of a view.
const DRAWN_EVERY: Duration = Duration::from_millis(30);

/// A terminal query that was let through is answered within this time or never.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// Makes the terminal save its title. Restored at the end.
const KEEP_TITLE: &[u8] = b"\x1b[22;0t";
const GIVE_TITLE_BACK: &[u8] = b"\x1b[23;0t";

pub(super) struct Display {
    writer: Writer,
    peer: PeerId,
    screen: Option<Screen>,
    filter: QueryFilter,
    /// Whether the command's terminal queries may reach the local terminal; never for a watcher.
    writes: bool,
    /// From which offset this client answers queries; from the start until the peer says so.
    asked: Option<Responder>,
    /// When the local terminal last got a query.
    asked_at: Option<Instant>,
    is_terminal: bool,
    /// The local terminal's size.
    own: TtySize,
    /// Whether the session should take that size but has not confirmed it yet.
    expects_own: bool,
    sizes: Sizes,
    /// Bytes of output shown so far.
    at: u64,
    /// Whether the user's earlier content is off the screen.
    is_cleared: bool,
    view: Option<View>,
    /// When to draw the view.
    draw_at: Option<Instant>,
    drawn_at: Option<Instant>,
    /// A message that replaces the view's usual hint.
    notice: Option<String>,
    lost: Option<Lost>,
}

/// The peer is unreachable.
struct Lost {
    why: String,
    since: Instant,
    said: bool,
}

impl Display {
    pub(super) fn new(steering: ExecutionHandle, peer: &PeerId, writes: bool, own: TtySize) -> Self {
        Self {
            writer: Writer::start(steering),
            peer: peer.clone(),
            screen: None,
            filter: QueryFilter::default(),
            writes,
            asked: None,
            asked_at: None,
            is_terminal: std::io::stdout().is_terminal(),
            own,
            expects_own: false,
            sizes: Sizes { sizes: Vec::new() },
            at: 0,
            is_cleared: false,
            view: None,
            draw_at: None,
            drawn_at: None,
            notice: None,
            lost: None,
        }
    }

    /// Handles the start: the command's terminal has this size, and its output continues at this
    /// offset.
    pub(super) fn begin(&mut self, size: TtySize, at: u64) {
        self.at = at;
        if self.is_terminal && self.screen.is_none() {
            self.writer.draw(Bytes::from_static(KEEP_TITLE));
            self.screen = Some(Screen::new(size));
            self.fit();
        }
    }

    /// Handles the local terminal's new size; `follows` says whether the session takes it.
    pub(super) fn is_at(&mut self, own: TtySize, follows: bool) {
        self.own = own;
        self.expects_own = follows;
        self.fit();
        self.draw_soon();
    }

    /// Handles the session's sizes and the offsets from which they apply.
    pub(super) fn is_sized(&mut self, sizes: Sizes) {
        self.sizes = sizes;
        self.take_size();
    }

    /// Applies the size that holds at the current offset.
    fn take_size(&mut self) {
        let (Some(screen), Some(size)) = (&mut self.screen, self.sizes.at(self.at)) else { return };
        if screen.size() == size {
            return;
        }
        let as_it_was = screen.leave();
        screen.resize(size);
        self.expects_own = false;
        self.notice = None;
        if self.view.is_none() && !self.fits() {
            self.writer.draw(as_it_was.into());
        }
        self.fit();
        self.draw_soon();
    }

    fn fits(&self) -> bool {
        self.expects_own || self.screen.as_ref().is_none_or(|screen| screen.size() == self.own)
    }

    /// Starts or ends the view as needed.
    fn fit(&mut self) {
        match (self.fits(), self.view.take()) {
            (false, None) => {
                if self.is_cleared
                    && let Some(screen) = &self.screen
                {
                    self.writer.draw(screen.leave().into());
                }
                self.view = Some(View::default());
                self.draw_soon();
            }
            (true, Some(view)) => {
                self.writer.draw(view.end().into());
                self.draw_all();
            }
            (_, view) => self.view = view,
        }
    }

    fn draw_soon(&mut self) {
        if self.view.is_some() && self.draw_at.is_none() {
            let now = Instant::now();
            self.draw_at = Some(self.drawn_at.map_or(now, |drawn| now.max(drawn + DRAWN_EVERY)));
        }
    }

    fn draw_view(&mut self) {
        self.draw_at = None;
        let (Some(view), Some(screen)) = (&mut self.view, &self.screen) else { return };
        self.drawn_at = Some(Instant::now());
        let how = if self.writes { "; any key has it take this size" } else { "" };
        let usual = format!("d: the session is {}{how}", screen.size());
        let hint = self.notice.as_ref().unwrap_or(&usual);
        self.writer.draw(view.paint(screen, self.own, hint).into());
    }

    /// Redraws the whole screen.
    fn draw_all(&mut self) {
        self.scroll_own_lines_off();
        let Some(screen) = &mut self.screen else { return };
        let mut drawn = screen.whole();
        if self.filter.has_begun() {
            // An incomplete sequence: its rest follows in the output.
            drawn.extend_from_slice(screen.begun());
        }
        self.writer.draw(drawn.into());
    }

    /// Scrolls the user's lines off the screen, since drawing starts with a blank screen and would
    /// lose them.
    fn scroll_own_lines_off(&mut self) {
        if self.is_terminal && !std::mem::replace(&mut self.is_cleared, true) {
            let lines = "\r\n".repeat(usize::from(self.own.rows.saturating_sub(1)));
            self.writer.draw(lines.into());
        }
    }

    /// Writes bytes that draw the terminal's current state.
    pub(super) fn draw(&mut self, bytes: &Bytes) {
        self.keep(bytes);
        // These bytes contain no query, but may end inside one; the following output shows who
        // answers it.
        let shown = self.filter.feed(bytes, 0, |_| false);
        if self.view.is_some() {
            return self.draw_soon();
        }
        self.scroll_own_lines_off();
        self.writer.draw(shown.into());
    }

    /// Handles a change of the client that answers queries.
    pub(super) fn is_asked(&mut self, asked: Responder) {
        self.asked = Some(asked);
    }

    /// Shows output of the command at this offset.
    pub(super) fn show(&mut self, stream: StreamKind, at: u64, bytes: &Bytes) {
        self.at = at;
        if !self.is_terminal {
            self.at += bytes.len() as u64;
            return self.writer.write(stream, bytes.clone());
        }
        let mut bytes = bytes.clone();
        while !bytes.is_empty() {
            self.take_size();
            let until = self.sizes.next_after(self.at).map_or(u64::MAX, |next| next - self.at);
            let count = usize::try_from(until).unwrap_or(usize::MAX).min(bytes.len());
            self.show_in_one_size(&bytes.split_to(count));
            self.at += count as u64;
        }
        self.take_size();
    }

    fn show_in_one_size(&mut self, bytes: &Bytes) {
        self.keep(bytes);
        if self.view.is_some() {
            // A query for another client, or the beginning of one, must not be shown here later.
            self.filter.feed(bytes, self.at, |_| false);
            self.writer.show(Bytes::new(), bytes.len());
            return self.draw_soon();
        }
        let (writes, asked) = (self.writes, &self.asked);
        let is_asked = |at| writes && asked.as_ref().is_none_or(|asked| asked.is_at(at));
        let shown = self.filter.feed(bytes, self.at, is_asked);
        if self.filter.has_asked() {
            self.asked_at = Some(Instant::now());
        }
        self.writer.show(shown.into(), bytes.len());
    }

    fn keep(&mut self, bytes: &Bytes) {
        if let Some(screen) = &mut self.screen {
            screen.feed(bytes);
        }
    }

    pub(super) fn not_kept(&mut self, bytes: u64) {
        self.say(format!("{bytes} bytes of output are no longer kept"));
    }

    /// Prints a line of `d`'s own after all output so far.
    pub(super) fn say(&mut self, text: String) {
        if self.view.is_some() {
            self.notice = Some(format!("d: {text}"));
            self.draw_soon();
        } else if self.is_terminal {
            // The terminal may be in raw mode and then does not return to the first column by
            // itself.
            self.writer.draw(Bytes::from(format!("\r\nd: {}\r\n", output::escaped(&text))));
        } else {
            output::say(&text);
        }
    }

    pub(super) fn lost(&mut self, why: String) {
        self.lost.get_or_insert(Lost { why, since: Instant::now(), said: false });
    }

    /// Waits until it is time to draw, or to report an unreachable peer.
    pub(super) async fn due(&self) {
        let lost = self.lost.as_ref().filter(|lost| !lost.said).map(|lost| lost.since + WORTH_SAYING);
        match [lost, self.draw_at].into_iter().flatten().min() {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Handles whatever [`Display::due`] waited for.
    pub(super) fn on_due(&mut self) {
        let now = Instant::now();
        if self.lost.as_ref().is_some_and(|lost| !lost.said && now >= lost.since + WORTH_SAYING) {
            self.say_so();
        }
        if self.draw_at.is_some_and(|at| now >= at) {
            self.draw_view();
        }
    }

    /// Reports the unreachable peer in the last row, which is redrawn afterwards.
    fn say_so(&mut self) {
        let Some(lost) = &mut self.lost else { return };
        lost.said = true;
        let text = format!("lost contact with {} ({}); trying to go on", self.peer, lost.why);
        let Some(screen) = &self.screen else { return output::say(&text) };
        if self.view.is_some() {
            return self.say(format!("{text}; ~. leaves"));
        }
        let TtySize { cols, rows } = screen.size();
        let text: String =
            output::escaped(&format!("d: {text}; ~. leaves")).chars().take(usize::from(cols) - 1).collect();
        let mut line = b"\x18".to_vec();
        line.extend(format!("\x1b7\x1b[?6l\x1b[{rows};1H\x1b[0;7m\x1b[2K{text}\x1b[0m\x1b8").bytes());
        self.writer.draw(line.into());
    }

    pub(super) fn is_back(&mut self) {
        let Some(lost) = self.lost.take().filter(|lost| lost.said) else { return };
        drop(lost);
        self.notice = None;
        match &self.screen {
            Some(_) if self.view.is_some() => self.draw_soon(),
            Some(screen) => {
                self.writer.draw(screen.leave().into());
                if !self.is_cleared {
                    // The cursor may be anywhere, so go to the last row first.
                    self.writer.draw(format!("\x1b[{};1H\r\n", self.own.rows).into());
                }
                self.draw_all();
            }
            None => output::say(&format!("{} is back", self.peer)),
        }
    }

    /// Resets the terminal for other programs while `d` is stopped.
    pub(super) fn is_suspended(&mut self) {
        let away = [&self.away()[..], b"\r\n"].concat();
        self.writer.draw(away.into());
        self.writer.wait_until_written(STANDS_STILL);
    }

    /// Redraws after `d` continues, whatever the terminal shows.
    pub(super) fn goes_on(&mut self) {
        if self.screen.is_none() {
            return;
        }
        self.writer.draw(Bytes::from_static(KEEP_TITLE));
        (self.view, self.is_cleared) = (None, false);
        match self.fits() {
            true => self.draw_all(),
            false => self.fit(),
        }
    }

    /// The bytes that reset the terminal's modes.
    fn away(&mut self) -> Vec<u8> {
        let Some(screen) = &self.screen else { return Vec::new() };
        let mut away = match self.view.take() {
            Some(view) => view.end(),
            None => screen.leave(),
        };
        away.extend_from_slice(GIVE_TITLE_BACK);
        away
    }

    /// Whether the terminal may still send answers that nobody waits for.
    pub(super) fn may_be_answered(&self) -> bool {
        self.asked_at.is_some_and(|at| at.elapsed() < ANSWERED_WITHIN)
            || self.screen.as_ref().is_some_and(Screen::has_reports)
    }

    /// Resets the terminal and, if `asks` is set, sends it a last query. Returns errors of `d`'s
    /// output. In a hurry, does not wait for a stalled output.
    pub(super) fn put_away(mut self, how: Away) -> Written {
        let held = self.filter.finish();
        if self.view.is_none() {
            self.writer.draw(held.into());
        }
        if self.screen.is_some() {
            let mut last = self.away();
            if how.in_mid_line {
                last.extend_from_slice(b"\r\n");
            }
            if how.asks {
                last.extend_from_slice(LAST_QUESTION);
            }
            self.writer.draw(last.into());
        }
        match how.quick {
            true => self.writer.finish_within(STANDS_STILL),
            false => self.writer.finish(how.everything_was_shown || self.screen.is_some()),
        }
    }
}

/// How to reset a terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Away {
    pub(super) in_mid_line: bool,
    pub(super) everything_was_shown: bool,
    pub(super) quick: bool,
    pub(super) asks: bool,
}
