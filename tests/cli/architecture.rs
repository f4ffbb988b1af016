//! What the compiler does not hold to: the table at the top of `src/lib.rs` says which crate depends on which, each
//! file says what it is, and all that `d` itself says goes through one place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Words that say something is not done; written in two parts, as this is no such place.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("unimpl", "emented!")];

/// What leads to the outputs of this process, past the one place that makes a text harmless. The lints of the
/// workspace forbid the printing macros.
const OUTPUTS: [&str; 5] = ["stdout()", "stderr()", "STDOUT_FILENO", "STDERR_FILENO", ".print()"];

/// Who may write to an output, and what.
const WRITERS: [(&str, &str); 10] = [
    ("cli/named_file.rs", "a file that somebody named, which may be stdout"),
    ("cli/output.rs", "all that d itself says"),
    ("cli/log.rs", "the log, whose lines are made in log/line.rs"),
    ("cli/exec/writer.rs", "the bytes of a command, which are its own"),
    ("cli/daemon/upgrade_guard.rs", "hands its own stderr on to the next version"),
    ("process/console.rs", "asks how large the terminal is"),
    ("process/resolve_cwd.rs", "the answer of the process that looks a directory up"),
    ("process/terminal_support.rs", "the answer of the process that looks a terminal up"),
    ("process/reaper/subreaper.rs", "hands its own on to the job"),
    ("shim/program.rs", "its log, which is a file"),
];

fn below_src(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every source file, by its path below `src/`, with its text. Build scripts are programs of their own.
fn sources() -> BTreeMap<String, String> {
    let root = below_src("");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("build.rs")
            {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                found.insert(name, read(&path));
            }
        }
    }
    assert!(found.len() > 100, "only {} source files below {}", found.len(), root.display());
    found
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The rows of the table: a crate, which others it may use, and which libraries only its manifest may name.
fn table() -> BTreeMap<String, (BTreeSet<String>, Vec<String>)> {
    let words = |cell: &str| -> Vec<String> {
        cell.split(',')
            .map(|word| word.trim().trim_matches('`').to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    };
    let text = read(&below_src("lib.rs"));
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        let name = cells[0].trim().trim_end_matches("`]").to_owned();
        (name, (words(cells[2]).into_iter().collect(), words(cells[3])))
    })
    .collect()
}

/// The names below `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_table_says_which_crate_depends_on_which() {
    let table = table();
    assert_eq!(table.len(), 10, "{:?}", table.keys());
    for (name, (may_use, _)) in &table {
        let all = dependencies(&read(&below_src(name).join("Cargo.toml")));
        let own: BTreeSet<String> =
            all.iter().filter_map(|other| other.strip_prefix("peerbus-")).map(str::to_owned).collect();
        assert_eq!(&own, may_use, "what {name} depends on, and what the table says");
        for (other, (_, alone)) in &table {
            let taken: Vec<&String> =
                alone.iter().filter(|library| other != name && all.contains(*library)).collect();
            assert!(taken.is_empty(), "{name} depends on {taken:?}, which only {other} may");
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    let sources = sources();
    let silent = sources.iter().filter(|(_, text)| !text.starts_with("//! "));
    assert_none(
        &silent
            .map(|(path, _)| format!("src/{path} does not begin with //! and what it is"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn map_names_existing_files() {
    let map = read(&below_src("README.md"));
    let code = map.split('`').skip(1).step_by(2);
    let paths: Vec<&str> = code
        .filter(|word| word.contains('/') && !word.contains([' ', ':']) && !word.contains("VERB"))
        .collect();
    assert!(paths.len() > 30, "the map names only {paths:?}");
    let is_missing = |path: &&&str| !below_src(path).exists() && !below_src("..").join(path).exists();
    assert_none(
        &paths.iter().filter(is_missing).map(|path| format!("src/README.md: no {path}")).collect::<Vec<_>>(),
    );
}

#[test]
fn nothing_is_left_unfinished() {
    let sources = sources();
    let unfinished = sources.iter().flat_map(|(path, text)| {
        UNFINISHED
            .iter()
            .filter(|word| text.contains(**word))
            .map(move |word| format!("src/{path} says {word}"))
    });
    assert_none(&unfinished.collect::<Vec<_>>());
}

/// Outputs that a text names outside comments. To ask whether one is a terminal is no writing.
fn outputs_named(text: &str) -> Vec<&'static str> {
    let code: String = text.lines().map(str::trim).filter(|line| !line.starts_with("//")).collect();
    let code = code.replace("stdout().is_terminal()", "").replace("stderr().is_terminal()", "");
    OUTPUTS.into_iter().filter(|word| code.contains(word)).collect()
}

#[test]
fn what_is_said_goes_through_one_place() {
    let sources = sources();
    for (path, what) in WRITERS {
        let text = sources.get(path).unwrap_or_else(|| panic!("{path} ({what}) is gone"));
        assert!(!outputs_named(text).is_empty(), "{path} ({what}) names no output: take it off the list");
    }
    let named = sources.iter().filter(|(path, _)| WRITERS.iter().all(|(writer, _)| path != writer)).flat_map(
        |(path, text)| {
            let words = outputs_named(text).into_iter();
            words.map(move |word| format!("src/{path} names {word}: what d says goes through cli/output.rs"))
        },
    );
    assert_none(&named.collect::<Vec<_>>());
}

#[test]
fn a_way_round_the_one_place_is_found() {
    for way in
        ["write!(std::io::stdout()\n    .lock(), \"x\")", "let mut out = io::stderr();", "help\n    .print()"]
    {
        assert_eq!(outputs_named(way).len(), 1, "{way}");
    }
    for none in
        ["if io::stdout().is_terminal() {", "// stdout() is not named here", "command.stdout(Stdio::piped())"]
    {
        assert_eq!(outputs_named(none), [""; 0], "{none}");
    }
}
