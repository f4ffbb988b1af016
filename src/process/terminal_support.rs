//! What this machine knows of a terminal that comes from another one: a description of its kind, and its owner's locale.
//!
//! A program that finds no description of `TERM` refuses to start, and one that finds no locale takes its terminal for
//! one of a single-byte encoding. So what the machine does not have is replaced by the nearest that it has.
//!
//! A process of its own looks, as the job's user: the user's home may be on a file server that never answers.

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

/// The argument that makes `d` this helper.
pub const TERMINAL_SUPPORT: &str = "terminal-support";

/// The locale of a job whose owner has one that the machine lacks: it has no language, and knows all characters.
pub const FALLBACK_LOCALE: &str = "C.UTF-8";

/// Kinds that stand in for an unknown one, the nearest first.
const FALLBACK_TERMS: [&str; 3] = [USUAL_TERM, "xterm", "vt100"];

/// Where descriptions are, beside the user's own.
const TERMINFO: [&str; 4] = ["/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo"];

/// Where the C library keeps locales.
const LOCALES: &str = "/usr/lib/locale";

/// Locales that need no file.
const BUILT_IN: [&str; 4] = ["C", "POSIX", "C.UTF-8", "C.utf8"];

/// The variables that change where descriptions are looked for.
const LOOK_UP_VARIABLES: [&str; 3] = ["TERMINFO", "TERMINFO_DIRS", "HOME"];

/// What the machine knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TerminalSupport {
    /// The kind of terminal that was asked for, or the nearest there is. None where the machine describes no terminal.
    pub term: Option<String>,
    /// The locales it has, of those that were asked for.
    pub locales: BTreeSet<String>,
}

/// Asks a process of its own what this machine knows of a terminal. `env` is that of the job.
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
    // The kind of terminal, then the locales, a line each.
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let mut lines = said.lines();
    let term = lines.next().filter(|term| !term.is_empty()).map(str::to_owned);
    Ok(TerminalSupport { term, locales: lines.map(str::to_owned).collect() })
}

/// The program `d terminal-support USER TERM LOCALE…`, which a daemon starts.
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

/// The folders of descriptions, in the order in which ncurses looks.
fn terminfo_folders(home: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = variable("TERMINFO").map(PathBuf::from).into_iter().collect();
    folders.extend(home.map(|home| home.join(".terminfo")));
    if let Some(list) = variable("TERMINFO_DIRS") {
        folders.extend(std::env::split_paths(&list).filter(|folder| !folder.as_os_str().is_empty()));
    }
    folders.extend(TERMINFO.map(PathBuf::from));
    folders
}

/// This kind of terminal, or the nearest that is described.
fn known_term(term: &str, folders: &[PathBuf]) -> Option<String> {
    let is_described = |term: &&str| folders.iter().any(|folder| describes(folder, term));
    std::iter::once(term).chain(FALLBACK_TERMS).find(is_described).map(str::to_owned)
}

/// Whether a folder describes a kind of terminal: below its first letter, or that letter's code where the file system
/// does not tell `A` from `a`.
fn describes(folder: &Path, term: &str) -> bool {
    let Some(&first) = term.as_bytes().first() else { return false };
    let has = |letter: String| folder.join(letter).join(term).is_file();
    has(char::from(first).to_string()) || has(format!("{first:02x}"))
}

/// Whether the C library of this machine finds a locale. It is not asked: a static program brings another one.
fn has_locale(locale: &str, folder: &Path) -> bool {
    let spellings = [locale.to_owned(), normalized(locale)];
    BUILT_IN.contains(&locale)
        || spellings.iter().any(|name| folder.join(name).join("LC_CTYPE").is_file())
        || fs::File::open(folder.join("locale-archive"))
            .is_ok_and(|archive| spellings.iter().any(|name| is_in_archive(&archive, name).unwrap_or(false)))
}

/// The name as glibc files it: `de_DE.UTF-8@euro` is `de_DE.utf8@euro`.
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

/// Whether glibc's archive has a locale. It begins with numbers of 32 bits, in the order of the machine: a magic one, a
/// serial one, and the place, count and size of the table of names. An entry is a hash, the place of the name, which ends
/// with a zero byte, and the place of the record, which is 0 in an empty entry. An archive may have 200 MB, so it is not
/// read whole.
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

    /// As glibc writes it, with one empty entry.
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
