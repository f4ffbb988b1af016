//! Builds the clean environment of a job: basics of its user and machine plus the requested variables. It
//! contains nothing else of the daemon's environment, which holds credentials.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use nix::unistd::geteuid;

use super::terminal_support::FALLBACK_LOCALE;
use super::user::User;
use peerbus_protocol::tty::USUAL_TERM;

/// The default PATH.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of the daemon that describe the machine; jobs may see them.
const OF_THE_MACHINE: [&str; 2] = ["LANG", "TZ"];

/// Variables by name.
pub(super) type Environment = BTreeMap<OsString, OsString>;

/// The environment for a job of `account`. `added` overrides the basics. With a terminal it includes the
/// terminal's type.
pub(super) fn of_job(account: &User, added: &[(String, String)], terminal: bool) -> Environment {
    let mut environment = basics(account, |name| std::env::var_os(name), geteuid().is_root());
    if terminal {
        environment.insert("TERM".into(), USUAL_TERM.into());
        // Without a locale, programs assume a single-byte encoding.
        environment.entry("LANG".into()).or_insert_with(|| FALLBACK_LOCALE.into());
    }
    environment.extend(added.iter().map(|(name, value)| (name.into(), value.into())));
    environment
}

/// The minimal environment of a reaper: nothing of the daemon's that jobs may not see.
pub(super) fn of_reaper() -> Environment {
    let names = OF_THE_MACHINE.into_iter().chain(["PATH"]);
    names.filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect()
}

/// A root daemon may have been started from anyone's shell, so its PATH is not passed on. A user's own daemon
/// passes on that user's PATH.
fn basics(account: &User, own: impl Fn(&str) -> Option<OsString>, daemon_is_root: bool) -> Environment {
    let path = if daemon_is_root { None } else { own("PATH") };
    let mut environment = Environment::new();
    let mut set = |name: &str, value: &OsStr| environment.insert(name.into(), value.to_owned());
    set("PATH", &path.unwrap_or_else(|| DEFAULT_PATH.into()));
    set("HOME", account.home.as_os_str());
    set("USER", account.name.as_ref());
    set("LOGNAME", account.name.as_ref());
    set("SHELL", account.shell.as_os_str());
    for name in OF_THE_MACHINE {
        // Ignore empty values.
        if let Some(value) = own(name).filter(|value| !value.is_empty()) {
            set(name, &value);
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> User {
        let (home, shell) = ("/home/ann".into(), "/bin/zsh".into());
        User { name: "ann".to_owned(), home, shell, credentials: None }
    }

    fn of_daemon(name: &str) -> Option<OsString> {
        match name {
            "TZ" => Some("Europe/Berlin".into()),
            "LANG" => None,
            _ => Some(format!("the daemon's {name}").into()),
        }
    }

    #[test]
    fn only_the_machine_and_the_user_are_in_it() {
        let environment = basics(&account(), of_daemon, true);
        let names: Vec<_> = environment.keys().map(|name| name.to_string_lossy()).collect();
        assert_eq!(names, ["HOME", "LOGNAME", "PATH", "SHELL", "TZ", "USER"]);
        assert_eq!(environment[OsStr::new("PATH")], DEFAULT_PATH);
        assert_eq!(environment[OsStr::new("HOME")], "/home/ann");
    }

    #[test]
    fn a_persons_own_daemon_keeps_that_persons_path() {
        assert_eq!(basics(&account(), of_daemon, false)[OsStr::new("PATH")], "the daemon's PATH");
        assert_eq!(basics(&account(), |_| None, false)[OsStr::new("PATH")], DEFAULT_PATH);
    }

    #[test]
    fn what_was_asked_for_wins() {
        let environment = of_job(&account(), &[("HOME".to_owned(), "/elsewhere".to_owned())], false);
        assert_eq!(environment[OsStr::new("HOME")], "/elsewhere");
    }

    #[test]
    fn a_terminal_has_a_locale_that_knows_all_characters() {
        let lang = |terminal| of_job(&account(), &[], terminal).get(OsStr::new("LANG")).cloned();
        let own = std::env::var_os("LANG");
        assert_eq!((lang(false), lang(true)), (own.clone(), own.or(Some("C.UTF-8".into()))));
    }

    #[test]
    fn a_terminal_has_a_kind() {
        let term = |added: &[(String, String)], terminal| {
            of_job(&account(), added, terminal).get(OsStr::new("TERM")).cloned()
        };
        assert_eq!(term(&[], false), None);
        assert_eq!(term(&[], true), Some("xterm-256color".into()));
        assert_eq!(term(&[("TERM".to_owned(), "vt100".to_owned())], true), Some("vt100".into()));
    }
}
