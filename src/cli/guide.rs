//! `d help`: the guide for users, and how it adds to the help of the verbs.
//!
//! The guide is a set of topics, each one Markdown source in `guide/`, which reads well where the
//! code is read. `d help TOPIC` shows it in a terminal, `d man-pages` makes a manual page of it. Some
//! topics have the name of a verb: then the topic comes first, and the verb's help below it.
//!
//! The parser of the command line has a help of its own, and answers everything that it can answer
//! alone.

mod markdown;
mod roff;
mod terminal;

use std::ffi::OsString;

use clap::CommandFactory;

use super::args::Args;
use super::exit::{self, CliError};
use super::groups;
use super::output;
use peerbus_protocol::exec::quoted;
pub(super) use roff::{as_it_stands, page, page_name};
pub(super) use terminal::Headings;

/// Least similarity (Jaro-Winkler) of an unknown word to the name that is suggested for it. One wrong letter in a short
/// name passes; a different word does not.
const NEAR_ENOUGH: f64 = 0.75;

/// One topic of the guide.
#[derive(Debug)]
pub(super) struct Topic {
    /// The word after `d help`.
    pub(super) name: &'static str,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Markdown(&'static str),
    /// A text that scripts parse: shown unchanged.
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
    topic!("configuration"),
    topic!("daemon"),
    topic!("databases"),
    topic!("exec"),
    Topic { name: "exit-codes", source: Source::AsItStands(exit::TABLE) },
    topic!("fleet"),
    topic!("how-it-works"),
    topic!("identities"),
    topic!("jobs"),
    topic!("limits"),
    topic!("older-names"),
    topic!("policy"),
    topic!("queue"),
    topic!("scripts"),
    topic!("sessions"),
    topic!("tasks"),
    topic!("troubleshooting"),
    topic!("upgrade"),
];

impl Topic {
    /// The title, for lists of topics.
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

/// Answers `d help`, `d help TOPIC`, and `d help WORD` for an unknown word. Returns none for any other command line.
pub(super) fn answer() -> Option<Result<u8, CliError>> {
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

fn show_overview() -> Result<u8, CliError> {
    show_verbs(&["d", "help"])?;
    output::line("")?;
    output::line("Topics of the guide, for `d help TOPIC`:")?;
    let widest = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    output::lines(TOPICS.iter().map(|topic| format!("  {:widest$}  {}", topic.name, topic.about())))?;
    Ok(0)
}

/// Returns none if the parser has the whole answer.
fn show(word: &str) -> Option<Result<u8, CliError>> {
    let is_verb = whole().find_subcommand(word).is_some();
    match TOPICS.iter().find(|topic| topic.name == word) {
        Some(topic) if is_verb && matches!(topic.source, Source::Markdown(_)) => Some(show_both(topic)),
        Some(topic) => Some(output::topic(topic).map(|()| 0)),
        None if is_verb => None,
        None => Some(Err(no_such_word(word))),
    }
}

fn show_both(topic: &Topic) -> Result<u8, CliError> {
    output::topic(topic)?;
    output::lines(["", &format!("The verb `d {}`", topic.name), ""])?;
    show_verbs(&["d", "help", topic.name])
}

/// Shows the parser's answer to these words, which ask for help.
fn show_verbs(words: &[&str]) -> Result<u8, CliError> {
    if let Err(help) = groups::parsed(words.iter()) {
        output::help(&help)?;
    }
    Ok(0)
}

fn no_such_word(word: &str) -> CliError {
    let likeness = |name: &str| strsim::jaro_winkler(word, name);
    let nearest = words().into_iter().map(|(name, _)| (likeness(&name), name));
    let nearest = nearest.filter(|(likeness, _)| *likeness >= NEAR_ENOUGH).max_by(|a, b| a.0.total_cmp(&b.0));
    let failure =
        CliError::usage(format!("there is no verb and no topic {}", quoted(&output::escaped(word))));
    match nearest {
        Some((_, name)) => failure.with_next(&format!("the nearest is {name}; `d help` lists them all")),
        None => failure.with_next("`d help` lists them all"),
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    const README: &str = include_str!("../../README.md");
    /// What a newcomer reads in one sitting.
    const README_MAX: usize = 10 * 1024;

    /// Marks around which a line is split: a shell runs what is between them as a command line of its own.
    const MARKS: [(&str, &str); 4] = [("<(", " "), ("$(", " "), (")", " "), (";", " ; ")];

    /// The command lines of `d` in the code of a text, in blocks and within sentences, each as words.
    fn command_lines(text: &str) -> Vec<Vec<String>> {
        let (prose, blocks): (Vec<_>, Vec<_>) =
            text.split("```").enumerate().partition(|(at, _)| at % 2 == 0);
        let inline = prose.iter().flat_map(|(_, prose)| prose.split('`').skip(1).step_by(2));
        let lines = blocks.iter().flat_map(|(_, block)| block.lines().skip(1));
        let split =
            |line: &str| MARKS.iter().fold(line.to_owned(), |line, (mark, blank)| line.replace(mark, blank));
        let lines = lines.chain(inline).map(split);
        let words = lines.filter_map(|line| shlex::split(&line));
        words.flat_map(|words| commands(&words)).collect()
    }

    /// The calls of `d` in a shell's line, each without the command for a peer.
    fn commands(words: &[String]) -> Vec<Vec<String>> {
        let ends = |word: &String| ["|", "&&", ";", "--"].contains(&word.as_str()) || word.starts_with('>');
        let parts =
            words.split(ends).filter_map(|part| part.get(part.iter().position(|word| word == "d")?..));
        parts.filter(|part| part.len() > 1).map(<[String]>::to_vec).collect()
    }

    fn exists(words: &[String]) -> bool {
        match words {
            // The parser does not know the topics.
            [_, help, word] if help == "help" => {
                word == "TOPIC" || super::words().iter().any(|(known, _)| known == word)
            }
            _ => groups::parsed(words).err().is_none_or(|mistake| {
                ![ErrorKind::UnknownArgument, ErrorKind::InvalidSubcommand].contains(&mistake.kind())
            }),
        }
    }

    fn sources() -> impl Iterator<Item = (&'static str, &'static str)> {
        TOPICS.iter().filter_map(|topic| match topic.source {
            Source::Markdown(text) => Some((topic.name, text)),
            Source::AsItStands(_) => None,
        })
    }

    #[test]
    fn the_readme_is_short_and_every_command_shown_there_and_in_the_guide_exists() {
        assert!(README.len() <= README_MAX, "README.md has {} bytes", README.len());
        let mut wrong = Vec::new();
        for (name, text) in sources().chain([("README.md", README)]) {
            let lines = command_lines(text);
            assert!(!lines.is_empty(), "{name} shows no command");
            wrong.extend(
                lines.into_iter().filter(|words| !exists(words)).map(|words| (name, words.join(" "))),
            );
        }
        assert!(wrong.is_empty(), "there is no such command: {wrong:#?}");
    }

    #[test]
    fn topics_lead_to_topics_and_their_tables_have_two_columns() {
        assert!(TOPICS.is_sorted_by_key(|topic| topic.name));
        let is_topic = |name: &str| TOPICS.iter().any(|topic| topic.name == name);
        for (name, text) in sources() {
            assert!(text.starts_with("# "), "{name} has no title");
            let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            for link in links {
                assert!(link.strip_suffix(".md").is_some_and(is_topic), "{name}: {link}");
            }
            let ruler = text.lines().find(|line| line.starts_with("|---") && *line != "|---|---|");
            assert_eq!(ruler, None, "{name}");
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest_verb_or_topic() {
        assert!(no_such_word("exit-code").message.contains("nearest is exit-codes"));
        assert!(no_such_word("exce").message.contains("nearest is exec;"));
        assert!(!no_such_word("zzz").message.contains("nearest"));
    }
}
