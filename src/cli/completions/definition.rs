//! The command definition, with what is offered for each kind of argument.
//!
//! An argument is a peer's by its name, `peer` or `PEER`, wherever it stands: no verb has to say so.

use std::ffi::OsStr;

use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::jobs::{self, Offer};
use super::{DIRECTORIES, FILES, peers};
use crate::args::{Args, Common};
use crate::settings::file::setting_names;
use crate::task;

/// The names of arguments that name a peer, as the code or the person sees them.
const PEER_NAMES: [&str; 4] = ["peer", "peers", "target", "targets"];

/// The definition that completes, for someone with these settings.
pub(super) fn completing(common: &Common) -> Command {
    with_completers(Args::command(), common)
}

fn with_completers(command: Command, common: &Common) -> Command {
    let command = command.mut_args(|arg| match completer(&arg, common) {
        Some(completer) => arg.add(completer),
        None => arg,
    });
    command.mut_subcommands(|below| with_completers(below, common))
}

fn completer(arg: &Arg, common: &Common) -> Option<ArgValueCompleter> {
    if arg.get::<ArgValueCompleter>().is_some() || !arg.get_action().takes_values() {
        return None;
    }
    if names_a_peer(arg) {
        let common = common.clone();
        return Some(ArgValueCompleter::new(move |typed: &OsStr| peers::candidates(&common, typed)));
    }
    if names_a_job(arg) {
        let (common, offer) = (common.clone(), offered(arg));
        return Some(ArgValueCompleter::new(move |typed: &OsStr| jobs::candidates(&common, offer, typed)));
    }
    if has_value_name(arg, "TASK") {
        let common = common.clone();
        return Some(ArgValueCompleter::new(move |typed: &OsStr| beginning(task::names(&common), typed)));
    }
    if has_value_name(arg, "KEY") {
        return Some(ArgValueCompleter::new(|typed: &OsStr| beginning(setting_names(), typed)));
    }
    if arg.get_id() == "user" {
        return Some(ArgValueCompleter::new(users));
    }
    // Derived from the type: `PathBuf` is a path of this machine, a peer's directory is a text.
    match arg.get_value_hint() {
        ValueHint::DirPath => Some(ArgValueCompleter::new(|_: &OsStr| vec![DIRECTORIES.into()])),
        ValueHint::AnyPath if arg.get_id() == "state_dir" => {
            Some(ArgValueCompleter::new(|_: &OsStr| vec![DIRECTORIES.into()]))
        }
        ValueHint::AnyPath | ValueHint::FilePath => {
            Some(ArgValueCompleter::new(|_: &OsStr| vec![FILES.into()]))
        }
        _ => None,
    }
}

fn names_a_peer(arg: &Arg) -> bool {
    let is_one = |name: &str| PEER_NAMES.contains(&name.to_ascii_lowercase().as_str());
    is_one(arg.get_id().as_str()) || arg.get_value_names().unwrap_or_default().iter().any(|name| is_one(name))
}

/// What a terminal that goes on is called in a verb's usage.
const SESSION: &str = "SESSION";

fn names_a_job(arg: &Arg) -> bool {
    let is_one = |name: &&str| ["JOB", SESSION].contains(name);
    arg.get_value_names().unwrap_or_default().iter().any(|name| is_one(&name.as_str()))
}

/// Of what is kept there is more than what runs.
fn offered(arg: &Arg) -> Offer {
    let names = arg.get_value_names().unwrap_or_default();
    match arg.get_id().as_str() {
        "kept_job" => Offer::Kept,
        _ if names.iter().any(|name| name == SESSION) => Offer::Terminals,
        _ => Offer::Running,
    }
}

fn has_value_name(arg: &Arg, wanted: &str) -> bool {
    arg.get_value_names().unwrap_or_default().iter().any(|name| name.as_str() == wanted)
}

/// Those of the names that begin as was typed.
fn beginning(names: Vec<String>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// The users of this machine: those of a peer are often the same, and nobody has to take one.
fn users(typed: &OsStr) -> Vec<CompletionCandidate> {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let names = accounts.lines().filter_map(|line| line.split(':').next());
    beginning(names.filter(|name| !name.is_empty()).map(str::to_owned).collect(), typed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every argument of every verb, with the words that lead to it.
    fn arguments(command: &Command, way: &str) -> Vec<(String, Arg)> {
        let own = command.get_arguments().map(|arg| (format!("{way} {}", arg.get_id()), arg.clone()));
        let below = command
            .get_subcommands()
            .flat_map(|below| arguments(below, &format!("{way} {}", below.get_name())));
        own.chain(below).collect()
    }

    fn all() -> Vec<(String, Arg)> {
        arguments(&completing(&Common::default()), "d")
    }

    /// What a person would take for a peer: the name, or the word that the help begins with.
    fn looks_like_a_peer(arg: &Arg) -> bool {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default().to_lowercase();
        let names =
            arg.get_value_names().unwrap_or_default().iter().any(|name| name.to_lowercase().contains("peer"));
        names
            || help.starts_with("the peer")
            || help.starts_with("peers")
            || arg.get_id().as_str().contains("peer")
    }

    #[test]
    fn every_argument_that_names_a_peer_completes_one() {
        let missing: Vec<String> = all()
            .into_iter()
            .filter(|(_, arg)| arg.get_action().takes_values())
            .filter(|(_, arg)| looks_like_a_peer(arg) && !names_a_peer(arg))
            .map(|(way, _)| way)
            .collect();
        assert!(missing.is_empty(), "these name a peer and would not complete one: {missing:?}");
    }

    #[test]
    fn the_verbs_that_take_a_peer_are_among_them() {
        let completing: Vec<String> = all()
            .into_iter()
            .filter(|(_, arg)| names_a_peer(arg) && arg.get::<ArgValueCompleter>().is_some())
            .map(|(way, _)| way)
            .collect();
        for way in
            ["d exec peer", "d ping peer", "d peer show peer", "d execOnPeer peer", "d getPeerInfo peer"]
        {
            assert!(completing.contains(&way.to_owned()), "{way} is not among {completing:?}");
        }
    }

    #[test]
    fn the_verbs_that_take_a_job_complete_one() {
        let completing: Vec<String> = all()
            .into_iter()
            .filter(|(_, arg)| names_a_job(arg) && arg.get::<ArgValueCompleter>().is_some())
            .map(|(way, _)| way)
            .collect();
        for way in [
            "d attach job",
            "d logs kept_job",
            "d stop job",
            "d wait job",
            "d session attach session",
            "d session rename session",
            "d session detach session",
        ] {
            assert!(completing.contains(&way.to_owned()), "{way} is not among {completing:?}");
        }
    }

    #[test]
    fn tasks_and_settings_complete_by_name() {
        let offered = |wanted: &str| {
            let with_name = |(_, arg): &(String, Arg)| has_value_name(arg, wanted);
            all().into_iter().filter(with_name).all(|(_, arg)| arg.get::<ArgValueCompleter>().is_some())
        };
        assert!(offered("TASK") && offered("KEY"));
        let ways: Vec<String> = all().into_iter().map(|(way, _)| way).collect();
        for way in ["d task run name", "d config set key", "d config unset key"] {
            assert!(ways.contains(&way.to_owned()), "{way}");
        }
        let keys = setting_names();
        assert!(keys.contains(&"nats".to_owned()) && keys.contains(&"broker_listen".to_owned()), "{keys:?}");
        assert!(!keys.contains(&"text".to_owned()), "{keys:?}");
    }

    #[test]
    fn users_begin_as_they_were_begun() {
        let names = |typed: &str| users(OsStr::new(typed)).len();
        assert!(names("root") >= 1 && names("") >= names("r") && names("no such user") == 0);
    }
}
