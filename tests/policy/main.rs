//! The policy of a peer, with the real daemon and the real `d`: what it lets run, what it does not, and
//! what is said of it.
//!
//! | file | what it tries |
//! |---|---|
//! | `bench` | a worker with a policy, and short ways to ask it |
//! | `rules` | words, lines, tasks, variables, users; the order of the checks |
//! | `escapes` | the ways out of a directory that a rule names |
//! | `identities` | rules about whoever has signed |
//! | `files` | mistakes, rights, reading it again |
//! | `questions` | `d policy check`, `d policy show`, and the plain question |
//! | `users` | what a command of another user finds around it |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so and stops"
)]

use peerbus_harness as harness;

mod audit;
mod bench;
mod escapes;
mod files;
mod identities;
mod questions;
mod rules;
mod users;
