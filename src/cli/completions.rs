//! `d completions`: a shell's completion script, and the answers to its queries.
//!
//! At each TAB, the script runs `d` with [`ASKED`] in the environment and the words up to the
//! cursor behind `--`. The answer comes from the command definition, so new verbs and flags
//! complete without extra code, and peer and job arguments get candidates. An answer has lines of
//! `value<TAB>description`, or is [`FILES`] or [`DIRECTORIES`] if the shell should complete paths
//! itself. Words behind a `--` on the line belong to the remote command and get no answer. Nothing
//! is printed to stderr.

mod definition;
mod jobs;
mod peers;
mod refresh;

use std::ffi::{OsStr, OsString};

use clap::{Args as ClapArgs, ValueEnum};

use super::args::Common;
use super::exit::CliError;
use super::guide;
use super::output;
pub(super) use jobs::refresh as refresh_jobs;
pub(super) use refresh::run as refresh;

/// This variable marks a completion query.
pub(super) const ASKED: &str = "PEERBUS_COMPLETE";

/// Requests file completion. No word of a command line has this first character.
const FILES: &str = "\u{1}files";
/// Requests directory completion.
const DIRECTORIES: &str = "\u{1}directories";

/// What `d completions` is given.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  source <(d completions bash)                  in ~/.bashrc\n  source <(d completions zsh)                   in ~/.zshrc, after compinit\n  d completions fish | source                   in ~/.config/fish/config.fish\n\nFor everyone on a machine:\n  d completions bash > /usr/share/bash-completion/completions/d\n  d completions zsh > /usr/share/zsh/vendor-completions/_d\n  d completions fish > /usr/share/fish/vendor_completions.d/d.fish"
)]
pub(super) struct Completions {
    /// The shell to print the script for
    shell: Shell,
}

/// A shell there is a script for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    /// GNU bash, 4.2 or newer.
    Bash,
    /// zsh.
    Zsh,
    /// fish, 3.1 or newer.
    Fish,
}

/// `d completions`
pub(super) fn run(args: &Completions) -> Result<u8, CliError> {
    let script = match args.shell {
        Shell::Bash => include_str!("../../shell/completions/d.bash"),
        Shell::Zsh => include_str!("../../shell/completions/d.zsh"),
        Shell::Fish => include_str!("../../shell/completions/d.fish"),
    };
    output::own_text(script.trim_end())?;
    Ok(0)
}

/// Answers a completion query; returns whether there was one.
pub(super) fn answered() -> bool {
    if std::env::var_os(ASKED).is_none_or(|value| value.is_empty()) {
        return false;
    }
    let words: Vec<OsString> = std::env::args_os().skip_while(|word| word != "--").skip(1).collect();
    // A shell that closed the pipe needs no answer.
    let _ = output::answer(&answer(words));
    true
}

/// The answer for the last of these words.
fn answer(words: Vec<OsString>) -> Vec<String> {
    let Some((current, before)) = words.split_last() else { return Vec::new() };
    if before.is_empty() || before.iter().any(|word| word == "--") {
        return Vec::new();
    }
    if let [_d, help] = before
        && help == "help"
    {
        return words_of_help(current);
    }
    let untouched = current.is_empty();
    let mut definition = definition::completing(&settings_among(before));
    let index = before.len();
    let here = std::env::current_dir().ok();
    let offered = clap_complete::engine::complete(&mut definition, words, index, here.as_deref());
    let lines = offered.unwrap_or_default().into_iter().filter_map(|candidate| {
        let value = candidate.get_value().to_str()?.to_owned();
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        Some((value, help.lines().next().unwrap_or_default().to_owned()))
    });
    let lines = without_flags_nobody_asked_for(lines.collect(), untouched);
    if let Some(path) =
        [FILES, DIRECTORIES].into_iter().find(|path| lines.iter().any(|(value, _)| value.ends_with(path)))
    {
        return vec![path.to_owned()];
    }
    // Omit values that need escapes.
    let is_seen = |(value, _): &(String, String)| value.chars().all(output::is_shown_as_it_is);
    lines.into_iter().filter(is_seen).map(|(value, help)| offer(value, &help)).collect()
}

fn offer(value: String, help: &str) -> String {
    match help {
        "" => value,
        help => format!("{value}\t{}", output::escaped(help)),
    }
}

/// Verbs, and the topics of the guide.
fn words_of_help(begun: &OsStr) -> Vec<String> {
    let begun = begun.to_string_lossy();
    let words = guide::words().into_iter().filter(|(word, _)| word.starts_with(&*begun));
    words.map(|(word, about)| offer(word, &about)).collect()
}

/// Removes flags from an empty word's candidates, where they would hide the values.
fn without_flags_nobody_asked_for(
    mut lines: Vec<(String, String)>,
    untouched: bool,
) -> Vec<(String, String)> {
    let is_flag = |line: &(String, String)| line.0.starts_with('-');
    if untouched && !lines.iter().all(is_flag) {
        lines.retain(|line| !is_flag(line));
    }
    lines
}

/// The settings in an incomplete command line.
fn settings_among(words: &[OsString]) -> Common {
    let value = |flag: &str| {
        let mut given = words.iter().enumerate().filter_map(|(at, word)| {
            let word = word.to_str()?;
            if word == flag {
                return words.get(at + 1)?.to_str().map(str::to_owned);
            }
            word.strip_prefix(flag)?.strip_prefix('=').map(str::to_owned)
        });
        given.next_back().filter(|value| !value.is_empty())
    };
    let config = value("--config").or_else(|| super::settings::variable("PEERBUS_CONFIG"));
    Common {
        config: config.map(Into::into),
        nats: value("--nats"),
        creds: value("--creds").map(Into::into),
        state_dir: value("--state-dir").map(Into::into),
        ..Common::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(line: &[&str]) -> Vec<String> {
        let words = ["d"].iter().chain(line).map(OsString::from).collect();
        answer(words).iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn verbs_flags_and_values_complete() {
        assert_eq!(values(&["compl"]), ["completions"]);
        assert_eq!(values(&["completions", ""]), ["bash", "zsh", "fish"]);
        assert_eq!(values(&["exec", "--repo"]), ["--report"]);
        assert_eq!(values(&["daemon", "run", "--role", ""]), ["leader", "worker"]);
        assert_eq!(values(&["daemon", "run", "--role=l"]), ["--role=leader"]);
        assert!(values(&[""]).contains(&"exec".to_owned()));
        assert!(!values(&[""]).iter().any(|value| value.starts_with('-')));
        assert!(values(&["peers", ""]).contains(&"--json".to_owned()));
        assert_eq!(values(&["help", "exit"]), ["exit-codes"]);
        assert_eq!(values(&["help", "pin"]), ["ping"]);
        assert_eq!(values(&["help", "daemon", "sto"]), ["stop"]);
    }

    #[test]
    fn paths_are_left_to_the_shell_and_those_of_the_peer_to_nobody() {
        assert_eq!(values(&["exec", "--report", ""]), [FILES]);
        assert_eq!(values(&["exec", "--report=a"]), [FILES]);
        assert_eq!(values(&["--config", "x"]), [FILES]);
        assert_eq!(values(&["peers", "--state-dir", ""]), [DIRECTORIES]);
        assert_eq!(values(&["exec", "vps", "-C", ""]), [""; 0]);
        assert_eq!(values(&["execOnPeer", "--directory", ""]), [""; 0]);
    }

    #[test]
    fn the_remote_commands_words_are_not_ours() {
        for line in [&["exec", "vps", "--", ""][..], &["exec", "vps", "--", "ls", "-"], &["exec", "--", ""]] {
            assert_eq!(values(line), [""; 0], "{line:?}");
        }
    }

    #[test]
    fn settings_are_found_on_an_unfinished_line() {
        let words = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
        let common = settings_among(&words(&["d", "--nats", "nats://a", "ping", "--config=f", "--creds"]));
        assert_eq!(common.nats.as_deref(), Some("nats://a"));
        assert_eq!(common.config.as_deref(), Some(std::path::Path::new("f")));
        assert_eq!(common.creds, None);
    }
}
