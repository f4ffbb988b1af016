//! What the person sees: what the command writes, and now and then a line of `d`'s own.
//!
//! What is shown is kept as the keeper keeps it, so that it can be drawn again after a line of `d`'s
//! own, and put away at the end.

use std::io::IsTerminal;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::cli::exec::Writer;
use crate::cli::output;
use crate::client::exec::Steering;
use crate::protocol::attach::Asked;
use crate::protocol::frame::StreamKind;
use crate::protocol::{PeerId, TtySize};
use crate::screen::{Filter, Screen};

/// A shorter silence of the peer is not worth a line on somebody's screen.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// How long a terminal may take for what was written to it, when `d` is ended.
const STANDS_STILL: Duration = Duration::from_secs(2);

/// Has a terminal put its title aside, and take it back.
const KEEP_TITLE: &[u8] = b"\x1b[22;0t";
const GIVE_TITLE_BACK: &[u8] = b"\x1b[23;0t";

pub(super) struct Board {
    writer: Writer,
    peer: PeerId,
    screen: Option<Screen>,
    filter: Filter,
    /// Whether what the command asks its terminal may be asked here: one who watches never is.
    writes: bool,
    /// From where on it is; from everywhere until that is told.
    asked: Option<Asked>,
    is_terminal: bool,
    lost: Option<Lost>,
}

/// The peer is out of reach.
struct Lost {
    why: String,
    since: Instant,
    said: bool,
}

impl Board {
    pub(super) fn new(steering: Steering, peer: &PeerId, writes: bool) -> Self {
        Self {
            writer: Writer::start(steering),
            peer: peer.clone(),
            screen: None,
            filter: Filter::default(),
            writes,
            asked: None,
            is_terminal: std::io::stdout().is_terminal(),
            lost: None,
        }
    }

    /// The command has a terminal of this size.
    pub(super) fn begin(&mut self, size: TtySize) {
        if self.is_terminal && self.screen.is_none() {
            self.writer.draw(Bytes::from_static(KEEP_TITLE));
            self.screen = Some(Screen::new(size));
        }
    }

    pub(super) fn resize(&mut self, size: TtySize) {
        if let Some(screen) = &mut self.screen {
            screen.resize(size);
        }
    }

    /// What draws the terminal as it stands.
    pub(super) fn draw(&mut self, bytes: &Bytes) {
        self.keep(bytes);
        // It asks nothing, but may end within a question: whose that is, shows in the output that follows.
        let shown = self.filter.feed(bytes, 0, |_| false);
        self.writer.draw(shown.into());
    }

    /// Somebody else is asked, or it is us.
    pub(super) fn is_asked(&mut self, asked: Asked) {
        self.asked = Some(asked);
    }

    /// What the command wrote, from this place on.
    pub(super) fn show(&mut self, stream: StreamKind, at: u64, bytes: &Bytes) {
        self.keep(bytes);
        if !self.is_terminal {
            return self.writer.write(stream, bytes.clone());
        }
        let (writes, asked) = (self.writes, &self.asked);
        let is_asked = |at| writes && asked.as_ref().is_none_or(|asked| asked.is_at(at));
        let shown = self.filter.feed(bytes, at, is_asked);
        self.writer.show(shown.into(), bytes.len());
    }

    fn keep(&mut self, bytes: &Bytes) {
        if let Some(screen) = &mut self.screen {
            screen.feed(bytes);
        }
    }

    pub(super) fn not_kept(&self, bytes: u64) {
        self.say(format!("{bytes} bytes of output are no longer kept"));
    }

    /// Says something in a line of its own, behind all that was shown.
    pub(super) fn say(&self, text: String) {
        if self.is_terminal {
            // The terminal may be raw, and does not return to the first column by itself.
            self.writer.draw(Bytes::from(format!("\r\nd: {text}\r\n")));
        } else {
            output::say(&text);
        }
    }

    pub(super) fn lost(&mut self, why: String) {
        self.lost.get_or_insert(Lost { why, since: Instant::now(), said: false });
    }

    /// When it is time to say that the peer is out of reach.
    pub(super) async fn due(&self) {
        match &self.lost {
            Some(Lost { since, said: false, .. }) => tokio::time::sleep_until(*since + WORTH_SAYING).await,
            _ => std::future::pending().await,
        }
    }

    /// Says it in the last row, which is drawn again afterwards.
    pub(super) fn say_so(&mut self) {
        let Some(lost) = &mut self.lost else { return };
        lost.said = true;
        let text = format!("lost contact with {} ({}); trying to go on", self.peer, lost.why);
        let Some(screen) = &self.screen else { return output::say(&text) };
        let TtySize { cols, rows } = screen.size();
        let text: String = format!("d: {text}; ~. leaves").chars().take(usize::from(cols) - 1).collect();
        let mut line = b"\x18".to_vec();
        line.extend(format!("\x1b7\x1b[?6l\x1b[{rows};1H\x1b[0;7m\x1b[2K{text}\x1b[0m\x1b8").bytes());
        self.writer.draw(line.into());
    }

    pub(super) fn is_back(&mut self) {
        let Some(lost) = self.lost.take().filter(|lost| lost.said) else { return };
        drop(lost);
        match &mut self.screen {
            Some(screen) => {
                let mut drawn = [screen.leave(), screen.whole()].concat();
                if self.filter.has_begun() {
                    // The rest of it is going to be shown.
                    drawn.extend_from_slice(screen.begun());
                }
                self.writer.draw(drawn.into());
            }
            None => output::say(&format!("{} is back", self.peer)),
        }
    }

    /// Puts away what the command has made of the terminal; says whether our output was closed, or
    /// stands still, for which who has to be quick does not wait.
    pub(super) fn put_away(mut self, in_mid_line: bool, everything_was_shown: bool, quick: bool) -> bool {
        self.writer.draw(self.filter.finish().into());
        if let Some(screen) = &self.screen {
            let mut last = screen.leave();
            last.extend_from_slice(GIVE_TITLE_BACK);
            if in_mid_line {
                last.extend_from_slice(b"\r\n");
            }
            self.writer.draw(last.into());
        }
        match quick {
            true => !self.writer.finish_within(STANDS_STILL),
            false => self.writer.finish(everything_was_shown || self.screen.is_some()),
        }
    }
}
