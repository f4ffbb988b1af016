//! The same against a terminal that has nothing in common with the emulator: tmux. What it shows after
//! all the bytes, it shows after the snapshot and the rest, with all colors and attributes.

use std::process::Command;

use peerbus::protocol::TtySize;
use peerbus::screen::Screen;

use crate::harness::reference::{Look, Reference};
use crate::screen::corpus::recorded;

/// Cuts of each session.
const CUTS: usize = 3;

/// What tmux shows after these bytes. It has taken them all when it answers where its cursor is.
fn shown(size: TtySize, bytes: &[u8]) -> (String, Vec<Vec<Look>>) {
    // A server each: one that ends must not be found by the next.
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let (file, socket) = (folder.join("bytes"), folder.join("tmux"));
    std::fs::write(&file, bytes).expect("a file");
    std::fs::write(folder.join("conf"), "set -g status off\nset -g default-terminal tmux-256color\n")
        .expect("a file");
    let tmux = |arguments: &[&str]| {
        let mut command = Command::new("tmux");
        command
            .arg("-S")
            .arg(&socket)
            .arg("-f")
            .arg(folder.join("conf"))
            .args(arguments)
            .env("LANG", "C.UTF-8");
        let done = command.env_remove("TMUX").output().expect("tmux: is it installed? apt-get install tmux");
        assert!(done.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let script = format!(
        "stty raw -echo; cat '{}'; printf '\\030\\033[6n'; read -rs -d R _; tmux -S '{}' wait-for -S taken; exec sleep 1000",
        file.display(),
        socket.display()
    );
    let (cols, rows) = (size.cols.to_string(), size.rows.to_string());
    tmux(&["new-session", "-d", "-x", &cols, "-y", &rows, "bash", "-c", &script]);
    tmux(&["wait-for", "taken"]);
    let cursor = tmux(&["display-message", "-p", "#{cursor_x},#{cursor_y} #{alternate_on} #{cursor_flag}"]);
    let shown = tmux(&["capture-pane", "-e", "-p"]);
    tmux(&["kill-server"]);
    // It says colors of blanks too, which nobody sees.
    let mut read = Reference::new(size);
    read.feed(shown.trim_end_matches('\n').replace('\n', "\r\n").as_bytes());
    (cursor, read.into_state().plainly_seen())
}

fn first_difference(one: &(String, Vec<Vec<Look>>), other: &(String, Vec<Vec<Look>>)) -> String {
    for (row, (left, right)) in one.1.iter().zip(&other.1).enumerate() {
        if let Some(column) = (0..left.len()).find(|&column| left[column] != right[column]) {
            return format!("row {row}, column {column}: {:?} and {:?}", left[column], right[column]);
        }
    }
    format!("{} and {}", one.0, other.0)
}

#[test]
fn fidelity_as_tmux_sees_it() {
    let mut same = 0;
    let mut different = Vec::new();
    for (name, size, raw) in recorded() {
        let mut screen = Screen::new(size);
        let mut fed = 0;
        for at in 1..=CUTS {
            let cut = raw.len() * at / (CUTS + 1);
            screen.feed(&raw[fed..cut]);
            fed = cut;
            // At the end a program leaves the screen; in the middle of what follows it is there.
            let end = cut + (raw.len() - cut) / 3;
            let whole = shown(size, &raw[..end]);
            let restored = shown(size, &[&screen.snapshot(), &raw[cut..end]].concat());
            match whole == restored {
                true => same += 1,
                false => different.push(format!("{name} at {cut}: {}", first_difference(&whole, &restored))),
            }
        }
    }
    println!("fidelity as tmux sees it: {same} of {}", same + different.len());
    assert!(different.is_empty(), "{different:#?}");
}
