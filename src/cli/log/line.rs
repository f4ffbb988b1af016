//! One event, one line, whatever anybody's text in it holds.
//!
//! ```text
//!  2026-03-01T12:00:00.000Z  INFO ended job=… command="git pull" ending="exited with code 0"
//!  <6>ended job=… command="git pull" ending="exited with code 0"
//! ```
//! Control characters and bidirectional controls are escaped. A value is quoted if it could be
//! taken for more than one. So no text can forge a line, a field, or terminal colours.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::output::{escaped, is_shown_as_it_is};

/// The start of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With the time and the level, for files and people.
    Time,
    /// With a syslog priority, for the journal, which adds its own time.
    Priority,
}

/// A syslog priority, as the journal parses it at the start of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Priority(u8);

impl Priority {
    /// A failure.
    pub(crate) const ERROR: Self = Self(3);

    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::ERROR,
            Level::WARN => Self(4),
            Level::INFO => Self(6),
            _ => Self(7),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

/// Writes events as lines.
pub(super) struct Lines(pub(super) Beginning);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        match self.0 {
            Beginning::Priority => write!(to, "{}", Priority::of(level))?,
            Beginning::Time => {
                let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
                let (on, off) = if to.has_ansi_escapes() { (colour(level), "\x1b[0m") } else { ("", "") };
                write!(to, "{now} {on}{level:>5}{off} ")?;
            }
        }
        let mut words = Words::default();
        event.record(&mut words);
        writeln!(to, "{}{}", words.message, words.fields)
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// The message of an event, then its fields.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Words {
    fn add(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message = escaped(text);
        } else if is_plain(text) {
            let _ = write!(self.fields, " {}={text}", field.name());
        } else {
            let _ = write!(self.fields, " {}={text:?}", field.name());
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// Whether a value needs no quotes.
fn is_plain(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '"' | '=' | '\\') && is_shown_as_it_is(c);
    !text.is_empty() && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_quoted_where_it_could_be_two() {
        for plain in ["w1", "_INBOX.a-b.1", "/opt/ä", "60s", "'x'"] {
            assert!(is_plain(plain), "{plain}");
        }
        for odd in ["", "two words", "a=b", "\"", "a\nb", "\\", "\u{202e}"] {
            assert!(!is_plain(odd), "{odd:?}");
        }
    }

    #[test]
    fn priorities_are_those_of_syslog() {
        let of = |level| Priority::of(level).to_string();
        let all = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE].map(of);
        assert_eq!(all, ["<3>", "<4>", "<6>", "<7>", "<7>"]);
    }
}
