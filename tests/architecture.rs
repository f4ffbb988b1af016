//! Holds the table at the top of `src/lib.rs` to its word.
//!
//! The table itself is read: which folder may use which, and which words a folder alone may name.
//! So it cannot say one thing while the code does another. Comments and the contents of string
//! literals are taken out before anything is looked for. Every rule is shown to be able to fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Words that say something is not done; written in two parts, as this is no such place.
const UNFINISHED: [&str; 2] = [concat!("TO", "DO"), concat!("unimpl", "emented!")];
/// What `printing` in the table means.
const PRINTING: [&str; 5] = ["println!", "print!", "eprintln!", "eprint!", "dbg!"];

/// What leads to the outputs of this process, past the one place that makes a text harmless.
const OUTPUTS: [&str; 5] = ["stdout()", "stderr()", "STDOUT_FILENO", "STDERR_FILENO", ".print()"];
/// Who may write to an output, and what.
const WRITERS: [(&str, &str); 9] = [
    ("cli/named_file.rs", "a file that somebody named, which may be stdout"),
    ("cli/output.rs", "all that d itself says"),
    ("cli/log.rs", "the log, whose lines are made in log/line.rs"),
    ("cli/exec/writer.rs", "the bytes of a command, which are its own"),
    ("cli/daemon/succession.rs", "hands its own stderr on to the next version"),
    ("process/console.rs", "asks how large the terminal is"),
    ("process/place.rs", "what it has looked up, for the daemon that started it"),
    ("process/reaper/tend.rs", "hands its own on to the job"),
    ("keeper/program.rs", "its log, which is a file"),
];

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    may_use: BTreeSet<String>,
    alone_names: BTreeSet<String>,
    never_names: BTreeSet<String>,
}

type Table = BTreeMap<String, Row>;

/// A source file: its path below `src/`, its text, and its code without comments and strings.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned(), code: code_of(text) }
    }

    /// The folder it is in. `main.rs` is the door of `cli`; `lib.rs` is in no folder.
    fn folder(&self) -> &str {
        match self.path.split_once('/') {
            Some((folder, _)) => folder,
            None if self.path == "main.rs" => "cli",
            None => "",
        }
    }

    /// How many modules deep it is: `daemon/mod.rs` 1, `daemon/exec.rs` 2.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    fn found(&self, problem: &str) -> String {
        format!("src/{}: {problem}", self.path)
    }
}

fn table_of(lib: &str) -> Table {
    let folder_of = |cell: &str| Some(cell.strip_prefix("[`")?.strip_suffix("`]")?.to_owned());
    let lines: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("//! |")).collect();
    let folders: BTreeSet<String> =
        lines.iter().filter_map(|line| folder_of(line.split('|').next()?.trim())).collect();
    let mut table = Table::new();
    for line in lines {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(folder) = folder_of(cells[0]) else { continue };
        assert!(cells.len() >= 4, "a row of the table has four cells: {line}");
        let may_use = match cells[2] {
            "all" => folders.clone(),
            list => list
                .split(',')
                .map(|word| word.trim().trim_matches(['`', '[', ']']).to_owned())
                .filter(|word| folders.contains(word))
                .collect(),
        };
        let (never, alone) = match cells[3].strip_prefix("(never ") {
            Some(never) => (never.trim_end_matches(')'), ""),
            None => ("", cells[3]),
        };
        let words = |list: &str| -> BTreeSet<String> {
            list.split(',')
                .map(|word| word.trim().trim_matches('`'))
                .filter(|word| !word.is_empty())
                .flat_map(|word| if word == "printing" { PRINTING.to_vec() } else { vec![word] })
                .map(str::to_owned)
                .collect()
        };
        table.insert(folder, Row { may_use, alone_names: words(alone), never_names: words(never) });
    }
    table
}

/// The words only one folder may name, named elsewhere; and words a folder must never name.
fn words_out_of_place(table: &Table, source: &Source) -> Vec<String> {
    let own = source.folder();
    let mut problems = Vec::new();
    for (folder, row) in table {
        for word in row.alone_names.iter().filter(|word| folder != own && names(&source.code, word)) {
            problems.push(source.found(&format!("names {word}, which only {folder}/ may")));
        }
    }
    if let Some(row) = table.get(own) {
        for word in row.never_names.iter().filter(|word| names(&source.code, word)) {
            problems.push(source.found(&format!("names {word}, which {own}/ never does")));
        }
    }
    problems
}

/// Folders used that the table does not allow, and folders the table does not know.
fn borders_crossed(table: &Table, source: &Source) -> Vec<String> {
    let own = source.folder();
    if own.is_empty() {
        return Vec::new();
    }
    let Some(row) = table.get(own) else {
        return vec![source.found(&format!("the folder {own}/ is not in the table"))];
    };
    used_modules(source)
        .into_iter()
        .filter(|used| table.contains_key(used) && used != own && !row.may_use.contains(used))
        .map(|used| source.found(&format!("uses {used}/, and {own}/ may not")))
        .collect()
}

/// What stands directly below the crate in paths of this file: after `crate::`, `peerbus::`, or as
/// many `super::` as lead to the top; single, or in braces.
fn used_modules(source: &Source) -> BTreeSet<String> {
    let dense: String = squeeze(&source.code);
    let mut tops: Vec<String> = vec!["crate::".to_owned(), "peerbus::".to_owned()];
    tops.extend((source.depth()..source.depth() + 3).map(|count| "super::".repeat(count)));
    let mut used = BTreeSet::new();
    for top in tops {
        for (at, _) in dense.match_indices(&top) {
            let before = dense[..at].chars().next_back();
            if before.is_some_and(|c| is_word(c) || c == ':') {
                continue;
            }
            let rest = &dense[at + top.len()..];
            match rest.strip_prefix('{') {
                Some(group) => used.extend(group_heads(group)),
                None => used.extend(head(rest)),
            }
        }
    }
    used
}

/// The first names of the paths in a braced group that has just been opened.
fn group_heads(group: &str) -> BTreeSet<String> {
    let mut heads = BTreeSet::new();
    let mut depth = 0;
    let mut at_start = true;
    for (at, c) in group.char_indices() {
        if depth == 0 && at_start {
            heads.extend(head(&group[at..]));
        }
        at_start = false;
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' => at_start = true,
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> Option<String> {
    let word: String = path.chars().take_while(|c| is_word(*c)).collect();
    (!word.is_empty()).then_some(word)
}

/// Blanks go, except one between two words.
fn squeeze(code: &str) -> String {
    let mut dense = String::with_capacity(code.len());
    for word in code.split_whitespace() {
        if dense.ends_with(is_word) && word.starts_with(is_word) {
            dense.push(' ');
        }
        dense.push_str(word);
    }
    dense
}

/// Outputs named outside the places for that. To ask whether one is a terminal is no writing.
fn written_elsewhere(source: &Source) -> Vec<String> {
    if WRITERS.iter().any(|(path, _)| *path == source.path) {
        return Vec::new();
    }
    let dense =
        squeeze(&source.code).replace("stdout().is_terminal()", "").replace("stderr().is_terminal()", "");
    let named = OUTPUTS.iter().chain(&PRINTING).filter(|word| holds(&dense, word));
    named.map(|word| source.found(&format!("names {word}: what d says goes through cli/output.rs"))).collect()
}

/// `eprint!` does not hold `print!`, which would be one problem twice.
fn holds(dense: &str, word: &str) -> bool {
    dense.match_indices(word).any(|(at, _)| !word.starts_with(is_word) || !dense[..at].ends_with(is_word))
}

fn badly_begun(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    if !source.text.starts_with("//! ") {
        problems.push(source.found("does not begin with //! and what it is"));
    }
    problems
}

fn unfinished(source: &Source) -> Vec<String> {
    UNFINISHED
        .iter()
        .filter(|word| source.text.contains(**word))
        .map(|word| source.found(&format!("says {word}")))
        .collect()
}

/// True if `word` stands in the code as a word of its own: `print!` does not stand in `eprint!`,
/// nor `unsafe` in `unsafe_code`.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let inside_a_word =
            before.is_some_and(is_word) || (word.ends_with(is_word) && after.is_some_and(is_word));
        !inside_a_word
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The code without comments, and with string and character literals emptied.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let in_word = code.last().is_some_and(|byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_');
        if rest.starts_with(b"//") {
            at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        } else if rest.starts_with(b"/*") {
            at += block_comment_length(rest);
            code.push(b' ');
        } else if let Some(length) = raw_string_length(rest).filter(|_| !in_word) {
            at += length;
            code.extend_from_slice(b"\"\"");
        } else if rest[0] == b'"' {
            at += quoted_length(rest, b'"');
            code.extend_from_slice(b"\"\"");
        } else if is_character_literal(text, at) {
            at += quoted_length(rest, b'\'');
            code.extend_from_slice(b"''");
        } else {
            code.push(rest[0]);
            at += 1;
        }
    }
    String::from_utf8(code).expect("whole characters are taken or left")
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while at < rest.len() && depth > 0 {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
    }
    at
}

/// The length of `r"…"`, `r#"…"#`, `br#"…"#`, … if one begins here.
fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let prefix = if rest.starts_with(b"r") {
        1
    } else if rest.starts_with(b"br") || rest.starts_with(b"cr") {
        2
    } else {
        return None;
    };
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    let body = prefix + hashes;
    if rest.get(body) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let length = rest[body + 1..].windows(end.len()).position(|window| window == end)?;
    Some(body + 1 + length + end.len())
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// A character literal, and not a lifetime.
fn is_character_literal(text: &str, at: usize) -> bool {
    let Some(rest) = text.get(at..).and_then(|rest| rest.strip_prefix('\'')) else { return false };
    rest.starts_with('\\') || rest.chars().nth(1) == Some('\'')
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    // A program of its own: what it prints is for cargo.
    let build_script = root.join("build.rs");
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && path != build_script {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
                found.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no source files below {}", root.display());
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn table() -> Table {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    table_of(&fs::read_to_string(lib).unwrap())
}

/// Fails with every violation in the sources.
fn all_keep(rule: impl Fn(&Source) -> Vec<String>) {
    let problems: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_word_is_named_where_the_table_says() {
    let table = table();
    all_keep(|source| words_out_of_place(&table, source));
}

#[test]
fn every_folder_uses_what_the_table_says() {
    let table = table();
    all_keep(|source| borders_crossed(&table, source));
}

#[test]
fn every_file_says_what_it_is() {
    all_keep(badly_begun);
}

#[test]
fn what_is_said_goes_through_one_place() {
    all_keep(written_elsewhere);
    let paths: BTreeSet<String> = sources().into_iter().map(|source| source.path).collect();
    for (path, what) in WRITERS {
        assert!(paths.contains(path), "{path} ({what}) is gone");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    all_keep(unfinished);
}

#[test]
fn the_table_still_draws_the_borders_that_matter() {
    let table = table();
    let names: Vec<&str> = table.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["bus", "cli", "client", "daemon", "identity", "keeper", "leader", "process", "protocol", "screen"]
    );
    for (folder, word) in [
        ("bus", "async_nats"),
        ("process", "unsafe"),
        ("process", "nix"),
        ("identity", "nkeys"),
        ("leader", "sqlx"),
        ("screen", "alacritty_terminal"),
        ("cli", "clap"),
        ("cli", "println!"),
        ("cli", "eprintln!"),
    ] {
        assert!(table[folder].alone_names.contains(word), "{folder}/ alone names {word}");
    }
    assert!(table["protocol"].never_names.contains("tokio"));
    assert!(table["protocol"].may_use.is_empty());
    for (folder, other) in [
        ("bus", "daemon"),
        ("process", "bus"),
        ("process", "keeper"),
        ("keeper", "bus"),
        ("keeper", "daemon"),
        ("screen", "keeper"),
        ("client", "daemon"),
        ("leader", "daemon"),
    ] {
        assert!(!table[folder].may_use.contains(other), "{folder}/ may not use {other}/");
    }
}

/// A table like the real one, for trying the rules.
fn sample_table() -> Table {
    table_of(
        "//! | folder | what it is | may use | alone may name |\n\
         //! |---|---|---|---|\n\
         //! | [`protocol`] | what is said | serde | (never tokio) |\n\
         //! | [`bus`] | how it travels | protocol | `async_nats` |\n\
         //! | [`process`] | the system's end | protocol | `unsafe`, `nix` |\n\
         //! | [`daemon`] | the peer's end | protocol, bus, process, leader | |\n\
         //! | [`leader`] | who is there | protocol, bus | `sqlx` |\n\
         //! | [`cli`] | the person's end | all | `clap`, printing |\n",
    )
}

fn words(path: &str, text: &str) -> usize {
    words_out_of_place(&sample_table(), &Source::new(path, text)).len()
}

fn borders(path: &str, text: &str) -> usize {
    borders_crossed(&sample_table(), &Source::new(path, text)).len()
}

#[test]
fn the_table_is_read_as_it_is_meant() {
    let table = sample_table();
    assert_eq!(table.len(), 6);
    assert!(table["protocol"].may_use.is_empty() && table["protocol"].alone_names.is_empty());
    let daemon: Vec<&String> = table["daemon"].may_use.iter().collect();
    assert_eq!(daemon, ["bus", "leader", "process", "protocol"]);
    assert!(table["daemon"].alone_names.is_empty());
    assert_eq!(table["cli"].may_use.len(), 6);
    assert!(table["cli"].alone_names.contains("println!") && table["cli"].alone_names.contains("clap"));
}

#[test]
fn a_word_out_of_place_is_found() {
    assert_eq!(words("daemon/exec.rs", "use async_nats::Client;"), 1);
    assert_eq!(words("bus/connect.rs", "use async_nats::Client;"), 0);
    assert_eq!(words("daemon/exec.rs", "fn f() { unsafe { g() } }"), 1);
    assert_eq!(words("daemon/exec.rs", "let id = nix::unistd::getpid();"), 1);
    assert_eq!(words("process/stop.rs", "unsafe { nix::unistd::fork() }"), 0);
    assert_eq!(words("lib.rs", "#![deny(unsafe_code)]"), 0);
    assert_eq!(words("cli/peers.rs", "let pool = sqlx::SqlitePool::connect(url);"), 1);
    assert_eq!(words("leader/registry.rs", "let pool = sqlx::SqlitePool::connect(url);"), 0);
    assert_eq!(words("client/exec.rs", "use clap::Parser;"), 1);
    assert_eq!(words("client/exec.rs", "eprintln!(\"no\");"), 1, "eprintln! is one word, not println! too");
    assert_eq!(words("main.rs", "use clap::Parser; fn main() { println!(\"yes\") }"), 0);
    assert_eq!(words("protocol/ids.rs", "use tokio::time::sleep;"), 1);
    assert_eq!(words("bus/connect.rs", "use tokio::time::sleep;"), 0);
}

#[test]
fn a_crossed_border_is_found() {
    assert_eq!(borders("protocol/ids.rs", "use crate::bus::Bus;"), 1);
    assert_eq!(borders("bus/connect.rs", "use crate::protocol::ids::PeerId;"), 0);
    assert_eq!(borders("bus/connect.rs", "use crate::{protocol::ids, daemon};"), 1);
    assert_eq!(borders("bus/connect.rs", "use crate::{\n protocol::{ids, bus},\n leader::Roster,\n};"), 1);
    assert_eq!(borders("daemon/run.rs", "crate::leader::run(); crate::process::start();"), 0);
    assert_eq!(borders("leader/run.rs", "let x = crate :: daemon :: run();"), 1);
    assert_eq!(borders("leader/mod.rs", "use super::daemon;"), 1);
    assert_eq!(borders("leader/run.rs", "use super::daemon;"), 0, "a module of leader's own");
    assert_eq!(borders("leader/run.rs", "use super::super::daemon;"), 1);
    assert_eq!(borders("cli/exec.rs", "use crate::daemon; use crate::leader;"), 0);
    assert_eq!(borders("main.rs", "peerbus::daemon::run()"), 0);
    assert_eq!(borders("bus/connect.rs", "peerbus::daemon::run()"), 1);
    assert_eq!(borders("stray/file.rs", ""), 1, "a folder that is not in the table");
}

#[test]
fn a_way_round_the_one_place_is_found() {
    let check = |path: &str, text: &str| written_elsewhere(&Source::new(path, text)).len();
    assert_eq!(check("cli/new.rs", "println!(\"{row}\")"), 1);
    assert_eq!(check("cli/new.rs", "write!(std::io::stdout().lock(), \"x\")"), 1);
    assert_eq!(check("cli/new.rs", "let mut out = io::stderr();"), 1);
    assert_eq!(check("cli/new.rs", "help.print()"), 1);
    assert_eq!(check("cli/new.rs", "if std::io::stdout().is_terminal() { output::line(&row) }"), 0);
    assert_eq!(check("cli/new.rs", "command.stdout(Stdio::piped()); said.stdout.len()"), 0);
    assert_eq!(check("cli/output.rs", "io::stdout().lock()"), 0);
}

#[test]
fn a_bad_beginning_is_found() {
    let check = |text: &str| badly_begun(&Source::new("bus/x.rs", text)).len();
    assert_eq!(check("//! What it is.\nfn f() {}\n"), 0);
    assert_eq!(check("fn f() {}\n"), 1);
    assert_eq!(check("// What it is.\n"), 1);
}

#[test]
fn unfinished_work_is_found_in_comments_too() {
    for word in UNFINISHED {
        assert_eq!(unfinished(&Source::new("bus/x.rs", &format!("// {word} later"))).len(), 1);
    }
    assert_eq!(unfinished(&Source::new("bus/x.rs", "//! All done.")).len(), 0);
}

#[test]
fn comments_and_literals_are_not_code() {
    let same = |text: &str, code: &str| assert_eq!(code_of(text), code, "of {text}");
    same("a // async_nats\nb", "a \nb");
    same("a /* x /* y */ z */ b", "a   b");
    same("f(\"// no \\\" comment\") // yes", "f(\"\") ");
    same("f(r#\"a \" // b\"#, br\"c\")", "f(\"\", \"\")");
    same("for\"x\"", "for\"\"");
    same("'\"' '\\'' 'ä' f::<'a>(b'/', \"x\")", "'' '' '' f::<'a>(b'', \"\")");
    same("fn f<'a>(x: &'a str) // c", "fn f<'a>(x: &'a str) ");
    same("/// docs\nlet ä = 1;", "\nlet ä = 1;");
}
