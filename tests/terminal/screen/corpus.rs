//! Real sessions, as they were recorded: vim, less, htop, top, mc, bash, zsh, fish, tmux, whiptail.

use std::path::{Path, PathBuf};

use peerbus::protocol::TtySize;

use crate::screen::whole::{Tally, compare, spread};

/// Cuts of each session: between them, all kinds of places.
const CUTS: usize = 120;

pub(crate) fn recorded() -> Vec<(String, TtySize, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/terminal/screen/recorded");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("recordings").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 10, "recordings are missing: {files:?}");
    files.into_iter().map(|file| read(&file)).collect()
}

/// The size is part of the name: `vim-80x24.raw`.
fn read(file: &Path) -> (String, TtySize, Vec<u8>) {
    let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
    let (_, size) = name.rsplit_once('-').expect("a size");
    let (cols, rows) = size.split_once('x').expect("two numbers");
    let size = TtySize { cols: cols.parse().expect("columns"), rows: rows.parse().expect("rows") };
    (name, size, std::fs::read(file).expect("a recording"))
}

/// The fidelity as a number.
#[test]
fn fidelity_of_recorded_sessions() {
    let mut all = Tally::default();
    for (name, size, raw) in recorded() {
        let tally = compare(&name, &raw, size, spread(raw.len(), CUTS));
        println!(
            "{name}: {} of {} cuts the same in all state, {} as seen; a snapshot has {} bytes on average",
            tally.same,
            tally.cuts,
            tally.seen_the_same,
            tally.bytes / tally.cuts
        );
        all.add(tally);
    }
    println!(
        "fidelity: {} of {} cuts the same in all state, {} as seen",
        all.same, all.cuts, all.seen_the_same
    );
    assert!(all.differences.is_empty(), "{:#?}", &all.differences[..all.differences.len().min(5)]);
}
