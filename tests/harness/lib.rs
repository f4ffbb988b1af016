//! The building blocks of end-to-end tests: a real server, real daemons, the real `d`, and a
//! connection between them that a test can cut.
//!
//! No test sleeps and hopes: each wait is for an event, has a deadline, and reports what it waited
//! for if the deadline passes. No process outlives its test, even if the test process is killed.
//! When a test fails, it prints the evidence and keeps its directory.
//!
//! | file | what it gives |
//! |---|---|
//! | `server` | a `nats-server` of the test's own, to kill and restart |
//! | `relay` | a TCP relay that cuts, freezes, throttles and counts |
//! | `fleet` | a server, daemons and `d`, in a private environment |
//! | `roster` | the output of `d peers` |
//! | `database` | a SQLite file, a `mariadbd` or a `postgres` of the test's own |
//! | `disk` | a small disk that can be filled |
//! | `dead_mount` | a file system that never answers |
//! | `child` | a process whose output is collected while it runs |
//! | `nats` | a raw client that can send anything, also malformed messages |
//! | `procs` | processes and their resources, from `/proc` |
//! | `scratch` | a directory of the test's own; processes in it end with it |
//! | `leftovers` | kills processes that would outlive their test |
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

/// Cargo's target directory.
pub fn target_directory() -> &'static Path {
    d_program().ancestors().nth(2).unwrap()
}

/// The program under test, from the target directory of the running test.
pub fn d_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("d");
        assert!(program.is_file(), "{} is missing: build the program before its tests", program.display());
        program
    })
}
