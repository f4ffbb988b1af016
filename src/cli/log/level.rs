//! How much is said: a word, or directives in the syntax of `tracing`, checked when they are read.

use std::str::FromStr;

use serde::Deserialize;
use tracing_subscriber::EnvFilter;

/// The words there are, from nothing to everything.
const WORDS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A level of the log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Level(String);

impl Level {
    pub(super) fn off() -> Self {
        Self("off".to_owned())
    }

    pub(super) fn info() -> Self {
        Self::of_our_own("info")
    }

    pub(super) fn debug() -> Self {
        Self::of_our_own("debug")
    }

    /// All of our own, and of what happens on the way to the bus.
    pub(super) fn trace() -> Self {
        Self("peerbus=trace,async_nats=debug".to_owned())
    }

    /// A word alone is about this program, not about the libraries in it.
    fn of_our_own(word: &str) -> Self {
        Self(format!("peerbus={word}"))
    }

    pub(super) fn filter(&self) -> EnvFilter {
        // Checked when it was made.
        EnvFilter::builder().with_regex(false).parse_lossy(&self.0)
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = text.trim().to_ascii_lowercase();
        match word.as_str() {
            "trace" => return Ok(Self::trace()),
            word if WORDS.contains(&word) => return Ok(Self::of_our_own(word)),
            _ => {}
        }
        let wrong = || {
            let words = WORDS.join(", ");
            format!("log: {text:?} is neither one of {words} nor like \"info,peerbus_leader=debug\"")
        };
        // A word that is no level would be taken for the name of a target, whatever it was meant to be.
        let is_a_level = |part: &str| WORDS.contains(&part.to_ascii_lowercase().as_str());
        if !text.split(',').map(str::trim).all(|part| part.contains(['=', '[']) || is_a_level(part)) {
            return Err(wrong());
        }
        match EnvFilter::builder().with_regex(false).parse(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_about_this_program() {
        assert_eq!("INFO".parse(), Ok(Level::info()));
        assert_eq!("off".parse(), Ok(Level::of_our_own("off")));
        assert_eq!("trace".parse(), Ok(Level::trace()));
        let directives = "warn,peerbus_leader=debug";
        assert_eq!(directives.parse(), Ok(Level(directives.to_owned())));
    }

    #[test]
    fn a_mistake_is_told_with_what_there_is() {
        for wrong in ["", "inof", "info,", "info,inof", "peerbus=inof", "peerbus=[", "loud", "3"] {
            let said = wrong.parse::<Level>().expect_err(wrong);
            assert!(said.contains(&format!("{wrong:?}")) && said.contains("warn"), "{said}");
        }
    }
}
