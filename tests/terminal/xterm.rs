//! A stock xterm, on a display of its own: what shows in no other terminal.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::fleet::Fleet;
use crate::harness::wait::eventually;
use crate::person::SOON;

/// A program that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn started(command: &mut Command) -> Ends {
    let name = command.get_program().to_string_lossy().into_owned();
    Ends(command.spawn().unwrap_or_else(|error| {
        panic!("{name}: {error}; is it installed? apt-get install xvfb xterm xdotool")
    }))
}

/// Ctrl-] of an xterm that tells keys in its own way leaves, and the lines that were there before can be scrolled to.
#[test]
fn ctrl_bracket_leaves_and_ones_own_lines_are_still_there() {
    let fleet = Fleet::of_workers(["w1"]);
    let program = "stty raw -echo; printf '\\033[>4;2m\\033[2J\\033[Hready'; head -c 1 >/dev/null";
    fleet.d(["session", "new", "-d", "--name", "work", "w1", "--", "sh", "-c", program]).expect_success();
    let mut display =
        started(Command::new("Xvfb").args(["-displayfd", "1", "-nolisten", "tcp"]).stdout(Stdio::piped()));
    let mut number = String::new();
    BufReader::new(display.0.stdout.take().unwrap()).read_line(&mut number).unwrap();
    let display_name = format!(":{}", number.trim());

    let (printed, over) = (fleet.path().join("printed"), fleet.path().join("over"));
    // It prints all its lines, those that scrolled off too, when it is asked to.
    let shell = format!(
        "seq -f 'own %g' 15; {} session attach w1/work; echo after; printf '\\033[?11i'; touch {}; exec sleep 1000",
        env!("CARGO_BIN_EXE_d"),
        over.display()
    );
    let prints = format!("XTerm*printerCommand: cat >{}", printed.display());
    let xterm = fleet.command([""; 0]).instead("xterm").with(|command| {
        command.env("DISPLAY", &display_name).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.args([
            "-geometry",
            "80x24+0+0",
            "-xrm",
            &prints,
            "-xrm",
            "XTerm*printAttributes: 0",
            "-e",
            "bash",
            "-c",
            &shell,
        ]);
    });
    let _xterm = xterm.spawn();
    let watched = || {
        let listed = fleet.d(["session", "list", "w1", "--json"]).expect_success().out();
        listed.contains("\"viewers\":1,").then_some(())
    };
    eventually(SOON, "somebody to sit down", watched);
    let tool = |words: &[&str]| {
        let done = Command::new("xdotool").args(words).env("DISPLAY", &display_name).status();
        done.expect("xdotool: is it installed? apt-get install xdotool").success()
    };
    eventually(SOON, "the keys to be heard", || {
        // It hears them when it has taken over what the program wants of keys.
        tool(&["mousemove", "100", "100", "key", "ctrl+bracketright", "key", "d"]);
        over.exists().then_some(())
    });
    let lines = eventually(SOON, "its lines", || {
        let lines = String::from_utf8_lossy(&std::fs::read(&printed).ok()?).into_owned();
        lines.contains("after").then_some(lines)
    });
    for n in 1..=15 {
        assert!(lines.lines().any(|line| line.trim_end() == format!("own {n}")), "own {n}: {lines:?}");
    }
    assert!(lines.contains("ready") && lines.contains("left work on w1"), "{lines:?}");
    let listed = fleet.d(["session", "list", "w1", "--json"]).expect_success().out();
    assert!(listed.contains("\"state\":\"running\""), "it goes on: {listed}");
}
