//! A signal, by name or by number.
//!
//! Accepts the names of `kill -l` in any case, with or without `SIG`, numbers (`INT`, `SIGINT`, `15`), and
//! `RTMIN+1` for real-time signals. A [`Signal`] is always valid on this system.

use std::fmt;
use std::str::FromStr;

use nix::libc;
use nix::sys::signal::Signal as Known;
use thiserror::Error;

/// One signal of this system, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(i32);

/// The text or number is not a signal of this system.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a signal: a name such as INT or a number from 1 to 64 is wanted")]
pub struct BadSignal(String);

/// The highest signal number of Linux.
const HIGHEST: i32 = 64;

/// The C library reserves the numbers between the classic signals and this one.
const FIRST_REAL_TIME: i32 = 34;

impl Signal {
    /// Sent by Ctrl-C.
    pub const INT: Self = Self(libc::SIGINT);
    /// Makes a daemon look for its next version.
    pub const USR1: Self = Self(libc::SIGUSR1);
    /// Sent by a terminal that closes; makes a daemon reload its files.
    pub const HUP: Self = Self(libc::SIGHUP);
    /// Asks a process to exit.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Kills a process.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// Resumes a stopped process.
    pub const CONT: Self = Self(libc::SIGCONT);

    /// Whether it asks a command to exit, without forcing it.
    #[must_use]
    pub const fn asks_to_end(self) -> bool {
        matches!(self.0, libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT)
    }

    /// The number on this system.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }

    /// The name without `SIG`, such as `KILL` or `RTMIN+1`.
    #[must_use]
    pub fn name(self) -> String {
        match Known::try_from(self.0) {
            Ok(known) => known.as_str().trim_start_matches("SIG").to_owned(),
            Err(_) if self.0 == FIRST_REAL_TIME => "RTMIN".to_owned(),
            Err(_) if self.0 > FIRST_REAL_TIME => format!("RTMIN+{}", self.0 - FIRST_REAL_TIME),
            Err(_) => self.0.to_string(),
        }
    }
}

impl TryFrom<i32> for Signal {
    type Error = BadSignal;

    fn try_from(number: i32) -> Result<Self, BadSignal> {
        if (1..=HIGHEST).contains(&number) { Ok(Self(number)) } else { Err(BadSignal(number.to_string())) }
    }
}

impl FromStr for Signal {
    type Err = BadSignal;

    fn from_str(text: &str) -> Result<Self, BadSignal> {
        let bad = || BadSignal(text.chars().take(32).collect());
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse::<i32>().ok().and_then(|n| Self::try_from(n).ok()).ok_or_else(bad);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(rest) = name.strip_prefix("RTMIN") {
            let above =
                if rest.is_empty() { Some(0) } else { rest.strip_prefix('+').and_then(|n| n.parse().ok()) };
            let number = above.and_then(|n: i32| n.checked_add(FIRST_REAL_TIME));
            return number.and_then(|n| Self::try_from(n).ok()).ok_or_else(bad);
        }
        format!("SIG{name}").parse::<Known>().map(|known| Self(known as i32)).map_err(|_| bad())
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        for text in ["INT", "SIGINT", "int", "SigInt", "2"] {
            assert_eq!(text.parse::<Signal>().expect(text), Signal::INT);
        }
        assert_eq!("9".parse::<Signal>().expect("a number").name(), "KILL");
        for (text, number) in [("RTMIN", 34), ("SIGRTMIN+1", 35), ("64", 64)] {
            assert_eq!(text.parse::<Signal>().expect(text).number(), number);
        }
        assert_eq!("64".parse::<Signal>().expect("the highest").name(), "RTMIN+30");
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for text in ["", "0", "65", "-1", "SIG", "NOSUCH", "2 ", "RTMIN+31", "RTMIN-1", "99999999999"] {
            let error = text.parse::<Signal>().expect_err(text);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn every_name_leads_back_to_its_signal() {
        for number in (1..=HIGHEST).filter(|n| !(32..FIRST_REAL_TIME).contains(n)) {
            let signal = Signal::try_from(number).expect("in range");
            assert_eq!(signal.name().parse::<Signal>().expect("a name"), signal);
        }
    }
}
