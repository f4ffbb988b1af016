//! Finds out what this machine supports of a remote terminal: the description of its type, and its owner's
//! locale.
//!
//! Without a description of `TERM` many programs refuse to start, and without a locale they assume a
//! single-byte encoding. So the nearest available value replaces one that the machine lacks.
//!
//! A separate process does the lookup as the job's user, because the user's home may be on a dead file
//! server.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use super::user::User;
use peerbus_protocol::tty::USUAL_TERM;

/// The argument that selects this helper program of `d`.
pub const TERMINAL_SUPPORT: &str = "terminal-support";

/// The locale of a job if the machine lacks its owner's: no language, full UTF-8.
pub const FALLBACK_LOCALE: &str = "C.UTF-8";

/// Replacements for an unknown terminal type, the nearest first.
const FALLBACK_TERMS: [&str; 3] = [USUAL_TERM, "xterm", "vt100"];

/// The terminfo directories besides the user's own.
const TERMINFO: [&str; 4] = ["/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"];

/// The locale directory of the C library.
const LOCALES: &str = "/usr/lib/locale";

/// Locales that need no file.
const BUILT_IN: [&str; 4] = ["C", "POSIX", "C.UTF-8", "C.utf8"];

/// Variables that change the terminfo search path.
const LOOK_UP_VARIABLES: [&str; 3] = ["TERMINFO", "TERMINFO_DIRS", "HOME"];

/// What the machine supports.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TerminalSupport {
    /// The requested terminal type or the nearest one. `None` if the machine describes no terminal.
    pub term: Option<String>,
    /// The available ones of the requested locales.
    pub locales: BTreeSet<String>,
}

/// Starts a separate process that finds out what this machine supports. `env` is the job's environment.
///
/// # Errors
/// When that process fails; `TimedOut` when it takes longer than `within`.
pub async fn find_terminal_support(
    term: &str,
    locales: impl IntoIterator<Item = &str>,
    user: Option<&str>,
    env: &[(String, String)],
    within: Duration,
) -> io::Result<TerminalSupport> {
    let mut look = tokio::process::Command::new("/proc/self/exe");
    look.args([TERMINAL_SUPPORT, user.unwrap_or_default(), term])
        .args(locales)
        .env_clear()
        .kill_on_drop(true);
    look.envs(env.iter().filter(|(name, _)| LOOK_UP_VARIABLES.contains(&name.as_str())).cloned());
    look.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = tokio::time::timeout(within, look.output()).await.map_err(|_| io::ErrorKind::TimedOut)??;
    if !done.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()));
    }
    // One line for the terminal type, then one per locale.
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut lines = said.lines();
    let term = lines.next().filter(|term| !term.is_empty()).map(str::to_owned);
    Ok(TerminalSupport { term, locales: lines.map(str::to_owned).collect() })
}

/// The program `d terminal-support USER TERM LOCALE…`, started by a daemon.
#[must_use]
pub fn terminal_support_main() -> ExitCode {
    let mut words = std::env::args().skip(2);
    let user = words.next().filter(|user| !user.is_empty());
    let term = words.next().unwrap_or_default();
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.or_else(|| User::find(user.as_deref()).ok().map(|user| user.home));
    let folders = terminfo_folders(home.as_deref(), |name| std::env::var_os(name));
    let term = known_term(&term, &folders).unwrap_or_default();
    let mut said = format!("{term}\n");
    for locale in words.filter(|locale| has_locale(locale, Path::new(LOCALES))) {
        said.push_str(&locale);
        said.push('\n');
    }
    match io::stdout().write_all(said.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The terminfo directories, in the search order of ncurses.
fn terminfo_folders(home: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = variable("TERMINFO").map(PathBuf::from).into_iter().collect();
    folders.extend(home.map(|home| home.join(".terminfo")));
    if let Some(list) = variable("TERMINFO_DIRS") {
        folders.extend(std::env::split_paths(&list).filter(|folder| !folder.as_os_str().is_empty()));
    }
    folders.extend(TERMINFO.map(PathBuf::from));
    folders
}

/// This terminal type, or the nearest one that has a description.
fn known_term(term: &str, folders: &[PathBuf]) -> Option<String> {
    let is_described = |term: &&str| folders.iter().any(|folder| describes(folder, term));
    std::iter::once(term).chain(FALLBACK_TERMS).find(is_described).map(str::to_owned)
}

/// Whether a directory describes a terminal type: in a subdirectory named after its first letter, or after
/// that letter's hexadecimal code on case-insensitive file systems.
fn describes(folder: &Path, term: &str) -> bool {
    let Some(&first) = term.as_bytes().first() else { return false };
    let has = |letter: String| folder.join(letter).join(term).is_file();
    has(char::from(first).to_string()) || has(format!("{first:02x}"))
}

/// Whether the C library of this machine has a locale. Checks the files, because a static program contains
/// another C library.
fn has_locale(locale: &str, folder: &Path) -> bool {
    let spellings = [locale.to_owned(), normalized(locale)];
    BUILT_IN.contains(&locale)
        || spellings.iter().any(|name| folder.join(name).join("LC_CTYPE").is_file())
        || fs::File::open(folder.join("locale-archive"))
            .is_ok_and(|archive| spellings.iter().any(|name| is_in_archive(&archive, name).unwrap_or(false)))
}

/// The name that glibc uses for the file: `de_DE.UTF-8@euro` becomes `de_DE.utf8@euro`.
fn normalized(locale: &str) -> String {
    let (name, modifier) = locale.split_once('@').map_or((locale, None), |(name, after)| (name, Some(after)));
    let mut normal = name.to_owned();
    if let Some((language, codeset)) = name.split_once('.') {
        let plain: String = codeset.chars().filter(char::is_ascii_alphanumeric).collect();
        let is_number = plain.bytes().all(|byte| byte.is_ascii_digit());
        let iso = if is_number { "iso" } else { "" };
        normal = format!("{language}.{iso}{}", plain.to_ascii_lowercase());
    }
    modifier.map_or(normal.clone(), |modifier| format!("{normal}@{modifier}"))
}

/// Whether glibc's archive contains a locale. The archive begins with 32-bit numbers in native byte order: a
/// magic number, a serial number, then offset, count and size of the name table. An entry consists of a hash,
/// the offset of the zero-terminated name, and the offset of the record, which is 0 in an empty entry. An
/// archive may have 200 MB, so this does not read all of it.
fn is_in_archive(archive: &fs::File, locale: &str) -> io::Result<bool> {
    const MAGIC: u32 = 0xde02_0109;
    const MOST_ENTRIES: usize = 1 << 20;
    let mut header = [0; 20];
    archive.read_exact_at(&mut header, 0)?;
    let [magic, _, place, _, size] = numbers(&header);
    if magic != MAGIC {
        return Ok(false);
    }
    let mut table = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(MOST_ENTRIES) * 12];
    archive.read_exact_at(&mut table, place.into())?;
    let wanted = [locale.as_bytes(), &[0]].concat();
    let mut name = vec![0; wanted.len()];
    for entry in table.chunks_exact(12) {
        let [_, place, record] = numbers(entry);
        if record != 0 && archive.read_at(&mut name, place.into())? == name.len() && name == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

fn numbers<const COUNT: usize>(bytes: &[u8]) -> [u32; COUNT] {
    let mut four = bytes.chunks_exact(4).filter_map(|four| four.try_into().ok()).map(u32::from_ne_bytes);
    std::array::from_fn(|_| four.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(folder: &Path, file: &str) {
        let file = folder.join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, "").expect("written");
    }

    #[test]
    fn an_unknown_terminal_becomes_the_nearest_that_is_described() {
        let home = tempfile::tempdir().expect("a directory");
        let folders = [home.path().to_owned()];
        assert_eq!(known_term("foot", &folders), None);
        described(home.path(), "v/vt100");
        assert_eq!(known_term("foot", &folders).as_deref(), Some("vt100"));
        described(home.path(), "78/xterm");
        assert_eq!(known_term("foot", &folders).as_deref(), Some("xterm"));
        described(home.path(), "x/xterm-256color");
        assert_eq!(known_term("foot", &folders).as_deref(), Some("xterm-256color"));
        described(home.path(), "66/foot");
        assert_eq!(known_term("foot", &folders).as_deref(), Some("foot"));
    }

    #[test]
    fn descriptions_are_looked_for_where_ncurses_does() {
        let own = |name: &str| match name {
            "TERMINFO" => Some(OsString::from("/opt/one")),
            "TERMINFO_DIRS" => Some("/opt/two::/opt/three".into()),
            _ => None,
        };
        let folders = terminfo_folders(Some(Path::new("/home/ann")), own);
        let first = ["/opt/one", "/home/ann/.terminfo", "/opt/two", "/opt/three", "/etc/terminfo"];
        assert_eq!(folders[..5], first.map(PathBuf::from));
    }

    /// The format of glibc, with one empty entry.
    fn archive_of(name: &str) -> Vec<u8> {
        let (table, names) = (56_u32, 56 + 24);
        let mut archive: Vec<u8> =
            [0xde02_0109, 1, table, 1, 2].into_iter().flat_map(u32::to_ne_bytes).collect();
        archive.resize(56, 0);
        archive.extend([0_u32, 0, 0, 7, names, 99].into_iter().flat_map(u32::to_ne_bytes));
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive
    }

    #[test]
    fn a_locale_is_found_in_a_folder_and_in_the_archive() {
        let folder = tempfile::tempdir().expect("a directory");
        let has = |locale: &str| has_locale(locale, folder.path());
        assert!(has("C") && has("C.UTF-8") && !has("de_DE.UTF-8") && !has("UTF-8"));
        described(folder.path(), "fr_FR.utf8/LC_CTYPE");
        assert!(has("fr_FR.UTF-8") && has("fr_FR.utf8") && !has("fr_FR"));
        let archive = folder.path().join("locale-archive");
        let whole = archive_of("de_DE.utf8");
        fs::write(&archive, &whole).expect("written");
        assert!(has("de_DE.UTF-8") && !has("de_DE") && !has("de_DE.UTF-8@euro"));
        for cut in 0..whole.len() {
            fs::write(&archive, &whole[..cut]).expect("written");
            assert!(!has("de_DE.UTF-8"), "{cut}");
        }
    }

    #[test]
    fn a_locale_is_filed_under_its_normal_name() {
        for (locale, normal) in [
            ("de_DE", "de_DE"),
            ("de_DE.UTF-8", "de_DE.utf8"),
            ("de_DE.ISO-8859-15@euro", "de_DE.iso885915@euro"),
            ("ru_RU.8859-5", "ru_RU.iso88595"),
        ] {
            assert_eq!(normalized(locale), normal);
        }
    }
}
