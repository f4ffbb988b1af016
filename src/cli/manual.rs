//! `d man-pages DIR`: one manual page for `d` and one for each verb, from the texts that `--help` shows, and
//! one for each topic of the guide.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Args;
use super::exit::{self, CliError};
use super::guide;
use super::output;

/// Where the files of the section for commands are named after it.
const SECTION: &str = "1";

/// The same of the section for what is not a command.
const GUIDE_SECTION: &str = "7";

/// What a paragraph of a help text begins with that shows how a verb is used.
const EXAMPLES: &str = "Examples:\n";

/// What `d man-pages` is given.
#[derive(Debug, ClapArgs)]
pub(super) struct ManPages {
    /// Directory to write them to; it is made where it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// `d man-pages`
pub(super) fn run(args: &ManPages) -> Result<u8, CliError> {
    let failed =
        |error| CliError::other(format!("writing manual pages to {}: {error}", args.directory.display()));
    fs::create_dir_all(&args.directory).map_err(failed)?;
    let mut whole = Args::command();
    whole.build();
    for file in write(&whole, &args.directory).map_err(failed)? {
        output::line(&file.display().to_string())?;
    }
    for file in write_guide(&args.directory).map_err(failed)? {
        output::line(&file.display().to_string())?;
    }
    Ok(0)
}

/// Writes the pages of the guide's topics; says which files that were.
fn write_guide(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let write = |topic| {
        let name = guide::page_name(topic);
        let file = directory.join(format!("{name}.{GUIDE_SECTION}"));
        fs::write(&file, title(&name, GUIDE_SECTION) + &guide::page(topic))?;
        Ok(file)
    };
    guide::TOPICS.iter().map(write).collect()
}

/// Writes the page of a verb and those of the verbs below it; says which files that were.
fn write(verb: &Command, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let file = directory.join(format!("{}.{SECTION}", page_name(verb)));
    fs::write(&file, page(verb)?)?;
    let mut files = vec![file];
    for below in pages_below(verb) {
        files.extend(write(below, directory)?);
    }
    Ok(files)
}

/// The verbs that have a page of their own.
fn pages_below(verb: &Command) -> impl Iterator<Item = &Command> {
    verb.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

/// Such as `d-daemon-run`.
fn page_name(verb: &Command) -> &str {
    verb.get_display_name().unwrap_or_else(|| verb.get_name())
}

fn page(verb: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    page.extend(title(page_name(verb), SECTION).into_bytes());
    let man = Man::new(verb.clone().disable_help_subcommand(true));
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut more = Roff::new();
    verbs_below(verb, &mut more);
    after_help(verb, &mut more);
    exit_status(verb, &mut more);
    see_also(verb, &mut more);
    page.extend(more.render().into_bytes());
    Ok(page)
}

/// Written here, because a page without a date needs an empty one in its place: the same source makes
/// the same page on every day.
fn title(name: &str, section: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let name = name.to_uppercase().replace('-', r"\-");
    format!(".TH {name} {section} \"\" \"peerbus {version}\" \"peerbus\"\n")
}

fn verbs_below(verb: &Command, page: &mut Roff) {
    let mut below = pages_below(verb).peekable();
    if below.peek().is_some() {
        page.control("SH", ["COMMANDS"]);
    }
    for verb in below {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        page.control("TP", []);
        page.text([bold(page_name(verb)), roman("(1)")]);
        page.text([roman(about)]);
    }
}

/// What stands below the options in a help text: examples, and what else is to be known.
fn after_help(verb: &Command, page: &mut Roff) {
    let text = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        match paragraph.strip_prefix(EXAMPLES) {
            Some(examples) => {
                page.control("SH", ["EXAMPLES"]);
                guide::as_it_stands(examples, page);
            }
            None => {
                page.control("SH", ["NOTES"]);
                guide::as_it_stands(paragraph, page);
            }
        }
    }
}

/// The whole table is where people look for it first: with `d` itself and with `d exec`.
fn exit_status(verb: &Command, page: &mut Roff) {
    page.control("SH", ["EXIT STATUS"]);
    if ["d", "d-exec"].contains(&page_name(verb)) {
        let table = exit::TABLE.split_once("\n\n").map_or(exit::TABLE, |(_heading, table)| table);
        guide::as_it_stands(table, page);
    } else {
        page.text([roman("The codes are the same for every command; "), bold("d"), roman("(1) lists them.")]);
    }
}

fn see_also(verb: &Command, page: &mut Roff) {
    if page_name(verb) == "d" {
        topics(page);
        return;
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("d"), roman("(1)")]);
}

fn topics(page: &mut Roff) {
    page.control("SH", ["GUIDE"]);
    for topic in guide::TOPICS {
        page.control("TP", []);
        page.text([bold(guide::page_name(topic)), roman("(7)")]);
        page.text([roman(topic.about())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Vec<(String, String)> {
        let directory = tempfile::tempdir().expect("a directory");
        let mut whole = Args::command();
        whole.build();
        let files = write(&whole, directory.path()).expect("writing pages");
        let text = |file: &PathBuf| fs::read_to_string(file).expect("reading a page");
        let name = |file: &PathBuf| file.file_name().expect("a name").to_string_lossy().into_owned();
        files.iter().map(|file| (name(file), text(file))).collect()
    }

    #[test]
    fn every_verb_that_help_shows_has_a_page() {
        let names: Vec<String> = pages().into_iter().map(|(name, _)| name).collect();
        for wanted in ["d.1", "d-exec.1", "d-peer-show.1", "d-daemon-run.1", "d-execOnPeer.1"] {
            assert!(names.iter().any(|name| name == wanted), "{wanted} is not among {names:?}");
        }
        for hidden in ["d-help.1", "d-exit-codes.1", "d-man-pages.1"] {
            assert!(!names.iter().any(|name| name == hidden), "{hidden} is among {names:?}");
        }
    }

    #[test]
    fn examples_and_exit_codes_are_those_of_the_help() {
        for (name, text) in pages() {
            assert!(text.contains(".SH \"EXIT STATUS\""), "{name}: {text}");
            if ["d.1", "d-exec.1"].contains(&name.as_str()) {
                assert!(text.contains(".SH EXAMPLES") && text.contains("d exec vps"), "{name}: {text}");
                assert!(text.contains("253    the peer is offline"), "{name}: {text}");
            }
        }
    }
}
