//! `d --help` shows the verbs in groups: [`GROUPS`] says which. What each does, the command line itself knows.

use std::ffi::OsString;
use std::fmt::Write;

use clap::{Command, CommandFactory, FromArgMatches};

use super::args::Args;

/// Every verb that help shows, in the order in which it does.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Every day", &["exec", "jobs", "attach", "logs", "session", "stop", "wait", "queue", "task"]),
    (
        "The fleet",
        &[
            "peers",
            "peer",
            "ping",
            "audit",
            "policy",
            "doctor",
            "init",
            "invite",
            "join",
            "revoke",
            "identities",
        ],
    ),
    ("This machine", &["status", "daemon", "config", "completions", "help"]),
    (
        "Older names",
        &[
            "execOnPeer",
            "listPeers",
            "getPeerInfo",
            "getPeerStatus",
            "deletePeer",
            "setPeerConfig",
            "registerWorker",
            "dbSanityCheck",
            "remotePull",
            "remoteBd",
            "remoteDeployDaemon",
        ],
    ),
];

/// What a person typed, or asked to be told of it.
pub(super) fn parsed(words: impl IntoIterator<Item: Into<OsString> + Clone>) -> Result<Args, clap::Error> {
    let mut command = grouped(Args::command());
    let mut matches = command.try_get_matches_from_mut(words)?;
    Args::from_arg_matches_mut(&mut matches).map_err(|mistake| mistake.format(&mut command))
}

/// The same command, whose help shows its verbs in groups.
fn grouped(mut command: Command) -> Command {
    // Else the verb that clap adds, `help`, is not there yet.
    command.build();
    let template = template(&command);
    command.help_template(template)
}

fn template(command: &Command) -> String {
    let (header, literal) = (*command.get_styles().get_header(), *command.get_styles().get_literal());
    let mut text = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (title, verbs) in GROUPS {
        let width = verbs.iter().map(|verb| verb.len()).max().unwrap_or_default();
        // Nothing fails to be written to a string.
        let _ = writeln!(text, "\n{header}{title}:{header:#}");
        for verb in verbs {
            let about = command.find_subcommand(verb).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {literal}{verb}{literal:#}{:1$}  {about}", "", width - verb.len());
        }
    }
    let _ = write!(text, "\n{header}Settings:{header:#}\n{{options}}{{after-help}}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_exactly_one_group() {
        let mut command = Args::command();
        command.build();
        let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let mut verbs: Vec<String> = shown.map(|verb| verb.get_name().to_owned()).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        verbs.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, verbs);
    }

    #[test]
    fn help_shows_the_groups_and_every_setting() {
        let help = grouped(Args::command()).render_help().to_string();
        for (title, verbs) in GROUPS {
            assert_eq!(help.matches(&format!("\n{title}:\n")).count(), 1, "{help}");
            for verb in verbs {
                let lines = help.lines().filter(|line| line.starts_with(&format!("  {verb} ")));
                assert_eq!(lines.count(), 1, "{verb}: {help}");
            }
        }
        for wanted in ["\nUsage: d ", "--nats <URL>", "--help", "--version", "\nExamples:\n"] {
            assert!(help.contains(wanted), "{wanted}: {help}");
        }
        assert!(!help.contains("\nCommands:"), "{help}");
        let below = grouped(Args::command()).find_subcommand_mut("session").expect("a verb").render_help();
        assert!(below.to_string().contains("\nCommands:\n  new "), "{below}");
    }
}
