//! `d exec` and `d execOnPeer` against real daemons: what a command was given, what it wrote and how
//! it ended is what a person sees.
//!
//! | file | what it tries |
//! |---|---|
//! | `bench` | short ways to run something in a fleet |
//! | `command` | arguments, shell, directory and environment reach the command as they were given |
//! | `output` | every byte, in order, at once |
//! | `slow` | a reader that stands still stops its own command and nothing else |
//! | `input` | standard input |
//! | `endings` | exit codes, `d`'s own failures and their lines, `--report` |
//! | `users` | as whom a command runs |
//! | `stopping` | Ctrl-C, signals, `--timeout`, `\| head`: the whole tree is gone |
//! | `leftovers` | processes that outlive their command |
//! | `beside` | jobs beside each other |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use peerbus_harness as harness;

mod bench;
mod beside;
mod command;
mod endings;
mod input;
mod leftovers;
mod output;
mod slow;
mod stdin;
mod stopping;
mod users;
