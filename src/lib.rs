//! peerbus: run commands on all your machines over a message bus.
//!
//! ```text
//!    person                                                     peer
//!  ┌────────┐    ┌────────┐   ┌─────┐        ┌─────┐    ┌───────────────────┐
//!  │  cli   ├────┤ client ├───┤ bus ├─ NATS ─┤ bus ├────┤ daemon            │
//!  └────────┘    └────────┘   └─────┘        └─────┘    │  job ── process   │
//!                     everything said is a type         │  durable ┐        │
//!                     in `protocol`                     │  heartbeat        │
//!                                                       ├──────────┼────────┤
//!  a job:        cli → client → bus → daemon → process  │ leader   │        │
//!  its output:   process → daemon → bus → client → cli  │  roster → registry│
//!  a durable one:     … daemon → keeper → process       └──────────┼────────┘
//!                                                       ┌──────────┴────────┐
//!                                                       │ keeper ── process │ each a process
//!                                                       └───────────────────┘ of its own
//!  a heartbeat:  daemon → bus → leader (roster → registry)
//! ```
//!
//! | folder | what it is | may use | alone may name |
//! |---|---|---|---|
//! | [`protocol`] | what is said: plain data and pure rules | serde | (never tokio) |
//! | [`identity`] | who somebody is and how that is proved | protocol | `nkeys` |
//! | [`bus`] | how it travels: connect, supervise, encode, decode | protocol, identity | `async_nats` |
//! | [`process`] | the operating system's end: pipes, stopping a tree | protocol | `unsafe`, `nix` |
//! | [`screen`] | what a terminal shows, as a model: snapshots, views, text; keeper and cli both draw from it | protocol | `alacritty_terminal` |
//! | [`keeper`] | one durable job, in a process of its own: its pipes or terminal, its log, its end | protocol, process, screen | |
//! | [`daemon`] | the peer's end: intake, jobs, journal, heartbeat | protocol, identity, bus, process, keeper, leader | |
//! | [`leader`] | who is in the fleet: roster (pure), registry | protocol, identity, bus | `sqlx` |
//! | [`client`] | asking the fleet; yields typed events, prints nothing | protocol, identity, bus | |
//! | [`cli`] | the person's end: one file per verb, rendering | all | `clap`, printing |
//!
//! The same word at each stop: `exec` is `cli/exec.rs`, `client/exec.rs`, `protocol/exec.rs`,
//! `daemon/exec.rs` and `tests/exec.rs`. `tests/architecture.rs` holds the table to its word.

#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

/// The version of this program, such as `0.1.0+cb3ae5e1f0`: a release names the commit it was built from.
pub const VERSION: &str = env!("PEERBUS_VERSION");

pub mod bus;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod identity;
pub mod keeper;
pub mod leader;
pub mod process;
pub mod protocol;
pub mod screen;
