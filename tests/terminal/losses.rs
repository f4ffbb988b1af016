//! What gets lost on the way, or is killed, costs no byte of a terminal.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;

use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::wait::eventually;
use crate::person::{Person, SIZE, SOON, spawn_at};
use crate::sessions::new;

const CUTS: u32 = 50;

#[test]
fn a_killed_d_leaves_the_session() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = new(&fleet, "work");
    person.types("echo before\r");
    person.until("before\r\nready> ");
    person.d.kill();
    let mut person = Person::sits_down(&fleet, &["session", "attach", "w1/work"]);
    person.until_screen("the screen", |rows| rows.iter().any(|row| row == "before"));
    person.types("exit 9\r");
    assert_eq!(person.finishes().0.code(), Some(9));
}

/// Whoever closes the window has left: also where the output notices first, which in a flood it does.
#[test]
fn a_closed_window_leaves_the_session() {
    let fleet = Fleet::of_workers(["w1"]);
    let flood = "while :; do echo flooded; done";
    let command = fleet.command(["session", "new", "--name", "work", "w1", "--", "sh", "-c", flood]);
    let (mut d, window) = spawn_at(command, SIZE, false, |command, theirs| {
        command.stdout(theirs.try_clone().unwrap()).stderr(theirs)
    });
    let mut window = std::fs::File::from(window);
    let (mut shown, mut piece) = (String::new(), [0; 4096]);
    while !shown.contains("flooded") {
        let count = window.read(&mut piece).expect("something is shown");
        shown.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    drop(window);
    assert_eq!(d.wait(SOON).code(), Some(141));
    let listed = fleet.d(["session", "list", "w1", "--json"]).expect_success().out();
    assert!(listed.contains("\"name\":\"work\"") && listed.contains("\"state\":\"running\""), "{listed}");
    let mut person = Person::sits_down(&fleet, &["session", "attach", "w1/work"]);
    person.until("flooded\r\nflooded");
    person.types("\x03");
    person.finishes();
}

/// Nobody reads what it writes to its terminal, and it ends all the same when it is told to.
#[test]
fn a_terminal_that_stands_still_does_not_keep_d() {
    let fleet = Fleet::of_workers(["w1"]);
    let command = fleet.command(["session", "new", "--name", "work", "w1", "--", "yes", "flooded"]);
    let (mut d, window) = spawn_at(command, SIZE, false, |command, theirs| {
        command.stdout(theirs.try_clone().unwrap()).stderr(theirs)
    });
    // It is full when all that may be under way has been written.
    let full = || {
        let listed = fleet.d(["session", "list", "w1", "--json"]).expect_success().out();
        let row: serde_json::Value = serde_json::from_str(listed.lines().next()?).ok()?;
        (row["viewers"] == 1 && row["out"].as_u64()? > 256 * 1024).then_some(())
    };
    eventually(SOON, "the terminal to be full", full);
    d.signal(Signal::SIGTERM);
    assert_eq!(d.wait(SOON).code(), Some(141));
    drop(window);
    fleet.d(["session", "stop", "w1/work"]).expect_success();
}

/// A line typed while nobody is there to take it arrives once.
#[test]
fn a_killed_daemon_and_a_killed_server_lose_no_key() {
    let fleet = Fleet::of_workers(["w1"]);
    let mut person = new(&fleet, "work");
    person.types("echo one\r");
    person.until("\r\none\r\nready> ");
    fleet.daemon("w1").kill9();
    person.types("echo two\r");
    fleet.daemon("w1").start();
    person.until("\r\ntwo\r\nready> ");
    fleet.server().kill();
    person.types("echo three\r");
    // That it is away for long enough is said, in a line of its own.
    person.until("d: lost contact with w1");
    fleet.server().restart();
    person.until("\r\nthree\r\nready> ");
    let rows = person.until_screen("a screen that was drawn again", |rows| {
        !rows.iter().any(|row| row.contains("lost contact"))
    });
    let said = |word: &str| rows.iter().filter(|row| *row == word).count();
    assert_eq!((said("one"), said("two"), said("three")), (1, 1, 1), "{rows:#?}");
    person.types("exit\r");
    assert_eq!(person.finishes().0.code(), Some(0));
}

/// Whether the letters of a text are among what was shown, whatever moves the cursor in between: vim goes over a
/// blank where it may as well write it.
fn is_shown(file: &Path, text: &str) -> Option<()> {
    let shown = std::fs::read(file).ok()?;
    let mut letters = Vec::with_capacity(shown.len());
    let mut within = false;
    for byte in shown {
        match byte {
            0x1b => within = true,
            b'\r' | b'\n' | b' ' => {}
            byte if !within => letters.push(byte),
            b'[' => {}
            0x40..=0x7e => within = false,
            _ => {}
        }
    }
    let text = text.replace(' ', "");
    letters.windows(text.len()).any(|window| window == text.as_bytes()).then_some(())
}

/// Small numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Somebody types into vim while links are cut. What vim writes to a file is what was typed; what they were
/// shown is what the job's log has: no byte lost, doubled or changed, either way.
#[test]
fn fifty_cuts_in_mid_typing_cost_no_byte() {
    let worker = DaemonOptions::worker("w1").through_relay();
    let fleet = Fleet::builder().client_relay().daemon(worker).start();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let (written, shown) = (fleet.path().join("written"), fleet.path().join("shown"));
    let file = written.display().to_string();
    let command = fleet.command(["exec", "-t", "-C", "/", "w1", "--", "vim", "-u", "NONE", "-N", &file]);
    let mut person = Person::typing_only(command.output_to(&shown));
    eventually(SOON, "vim to draw", || is_shown(&shown, "[New]"));
    person.types("i");
    let daemon = fleet.daemon("w1");
    let mut typed = String::new();
    for cut in 0..CUTS {
        let relay = if dice.roll(2) == 0 { fleet.client_relay() } else { daemon.relay() };
        let lines: String = (0..dice.roll(4) + 1)
            .map(|n| format!("cut {cut} line {n} is {}\r", dice.roll(1 << 40)))
            .collect();
        typed.push_str(&lines.replace('\r', "\n"));
        let at = usize::try_from(dice.roll(lines.len() as u64)).unwrap();
        person.types(&lines[..at]);
        relay.cut();
        person.types(&lines[at..]);
        if dice.roll(3) == 0 {
            // The other end tries in vain for a while.
            std::thread::sleep(Duration::from_millis(dice.roll(300)));
        }
        relay.heal();
        // Most cuts hit a link that works again, and some one that is only just being made.
        if dice.roll(4) != 0 {
            eventually(SOON, "what was typed to be shown", || {
                is_shown(&shown, &format!("cut {cut} line 0 is"))
            });
        }
    }
    person.types("\x1b:wq\r");
    let ended = person.d.wait(SOON);
    assert_eq!(ended.code(), Some(0), "{}", ended.err());
    assert_eq!(std::fs::read_to_string(&written).unwrap(), format!("{typed}\n"), "what was typed");
    let listed = fleet.d(["jobs", "w1", "-a", "--json"]).expect_success().out();
    let job: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    let log = fleet.d(["logs", "--raw", &format!("w1/{}", job["id"].as_str().unwrap())]).expect_success();
    assert!(std::fs::read(&shown).unwrap() == log.stdout, "what was shown is not what was written");
}
