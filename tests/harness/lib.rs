//! What every test of the whole program is made of: a real server, real daemons, the real `d`,
//! and a link between them that can be cut.
//!
//! Nothing here sleeps and hopes: each wait is for an event, has a deadline, and says what it
//! waited for when the deadline passes. Nothing here outlives its test, not even when the test
//! process is killed. When a test fails, the evidence is printed and its directory is kept.
//!
//! | file | what it gives |
//! |---|---|
//! | `server` | a `nats-server` of the test's own, to kill and to bring back |
//! | `relay` | a link to cut, freeze, slow down and count |
//! | `fleet` | a server, daemons and `d`, in a private environment |
//! | `roster` | what `d peers` shows of a fleet |
//! | `database` | a SQLite file, a `mariadbd` or a `postgres` of the test's own |
//! | `disk` | a small disk that can be filled |
//! | `dead_mount` | a file system that never answers |
//! | `child` | a process whose output is collected while it runs |
//! | `nats` | a raw client that can say anything, malformed things too |
//! | `procs` | what `/proc` knows: who still runs, and whose it is |
//! | `scratch` | a directory of the test's own; what runs in it ends with it |
//! | `leftovers` | ends what would outlive its test |
//! | `wait` | waiting for an event with a deadline |

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness that cannot go on says so and stops, and its names say what it gives"
)]

mod both;
pub mod child;
pub mod database;
pub mod dead_mount;
pub mod disk;
pub mod fleet;
pub mod leftovers;
pub mod nats;
pub mod procs;
pub mod reference;
pub mod relay;
pub mod roster;
pub mod scratch;
pub mod secured;
pub mod server;
pub mod speaker;
pub mod wait;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The directory in which cargo builds.
pub fn target_directory() -> &'static Path {
    d_program().ancestors().nth(2).unwrap()
}

/// The program under test: beside the directory in which cargo puts the test that runs.
pub fn d_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("d");
        assert!(program.is_file(), "{} is missing: build the program before its tests", program.display());
        program
    })
}
