//! `d help`: the guide for users, and how it adds to the help of the verbs.
//!
//! The guide is a set of topics, each one Markdown source in `guide/`, which reads well where the
//! code is read. `d help TOPIC` shows it in a terminal, `d man-pages` makes a manual page of it. Some
//! topics have the name of a verb: then the topic comes first, and the verb's help below it.
//!
//! The parser of the command line has a help of its own, and everything that it can answer alone is
//! left to it.

mod markdown;
mod roff;
mod terminal;

use std::ffi::OsString;

use clap::CommandFactory;

use super::args::Args;
use super::exit::{self, Failure};
use super::groups;
use super::output;
use crate::protocol::exec::quoted;
pub(super) use roff::{as_it_stands, page, page_name};
pub(super) use terminal::Headings;

/// A name as near as this to a word is offered in its place: between "somewhat alike" and "one letter wrong".
const NEAR_ENOUGH: f64 = 0.75;

/// One topic of the guide.
#[derive(Debug)]
pub(super) struct Topic {
    /// What it is asked for by.
    pub(super) name: &'static str,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Markdown(&'static str),
    /// A text that scripts know: never laid out anew.
    AsItStands(&'static str),
}

macro_rules! topic {
    ($name:literal) => {
        Topic { name: $name, source: Source::Markdown(include_str!(concat!("guide/", $name, ".md"))) }
    };
}

/// All of them, in the order of their names.
pub(super) const TOPICS: &[Topic] = &[
    topic!("audit"),
    Topic { name: "exit-codes", source: Source::AsItStands(exit::TABLE) },
    topic!("sessions"),
];

impl Topic {
    /// What it is about, in a few words.
    pub(super) fn about(&self) -> &'static str {
        let (Source::Markdown(text) | Source::AsItStands(text)) = self.source;
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("# ").unwrap_or(first)
    }

    /// The topic as a text for a terminal of so many columns.
    pub(super) fn for_terminal(&self, columns: usize, headings: Headings) -> String {
        match self.source {
            Source::Markdown(text) => terminal::render(&markdown::parse(text), columns, headings),
            Source::AsItStands(text) => format!("{text}\n"),
        }
    }
}

/// Answers `d help`, `d help TOPIC`, and `d help WORD` where there is no such word; nothing else.
pub(super) fn answered() -> Option<Result<u8, Failure>> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match words.iter().map(|word| word.to_str()).collect::<Option<Vec<_>>>()?.as_slice() {
        ["help"] => Some(show_overview()),
        ["help", word] if !word.starts_with('-') => show(word),
        _ => None,
    }
}

/// The words that may follow `d help`, with a description of each.
pub(super) fn words() -> Vec<(String, String)> {
    let whole = whole();
    let verbs = whole.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        (verb.get_name().to_owned(), about)
    });
    let topics = TOPICS.iter().map(|topic| (topic.name.to_owned(), topic.about().to_owned()));
    let mut words: Vec<_> = topics.chain(verbs).collect();
    words.sort();
    words.dedup_by(|next, first| next.0 == first.0);
    words
}

fn whole() -> clap::Command {
    let mut whole = Args::command();
    whole.build();
    whole
}

fn show_overview() -> Result<u8, Failure> {
    show_verbs(&["d", "help"])?;
    output::line("")?;
    output::line("Topics of the guide, for `d help TOPIC`:")?;
    let widest = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    output::lines(TOPICS.iter().map(|topic| format!("  {:widest$}  {}", topic.name, topic.about())))?;
    Ok(0)
}

/// None where the parser has the whole answer.
fn show(word: &str) -> Option<Result<u8, Failure>> {
    let is_verb = whole().find_subcommand(word).is_some();
    match TOPICS.iter().find(|topic| topic.name == word) {
        Some(topic) if is_verb && matches!(topic.source, Source::Markdown(_)) => Some(show_both(topic)),
        Some(topic) => Some(output::topic(topic).map(|()| 0)),
        None if is_verb => None,
        None => Some(Err(no_such_word(word))),
    }
}

fn show_both(topic: &Topic) -> Result<u8, Failure> {
    output::topic(topic)?;
    output::lines(["", &format!("The verb `d {}`", topic.name), ""])?;
    show_verbs(&["d", "help", topic.name])
}

/// What the parser says to these words, which ask for help.
fn show_verbs(words: &[&str]) -> Result<u8, Failure> {
    if let Err(help) = groups::parsed(words.iter()) {
        output::help(&help)?;
    }
    Ok(0)
}

fn no_such_word(word: &str) -> Failure {
    let likeness = |name: &str| strsim::jaro_winkler(word, name);
    let nearest = words().into_iter().map(|(name, _)| (likeness(&name), name));
    let nearest = nearest.filter(|(likeness, _)| *likeness >= NEAR_ENOUGH).max_by(|a, b| a.0.total_cmp(&b.0));
    let failure = Failure::usage(format!("there is no verb and no topic {}", quoted(&output::escaped(word))));
    match nearest {
        Some((_, name)) => failure.with_next(&format!("the nearest is {name}; `d help` lists them all")),
        None => failure.with_next("`d help` lists them all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest_verb_or_topic() {
        assert!(no_such_word("exit-code").message.contains("nearest is exit-codes"));
        assert!(no_such_word("exce").message.contains("nearest is exec;"));
        assert!(!no_such_word("zzz").message.contains("nearest"));
    }
}
