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
//!  a durable one:     … daemon → shim → process       └──────────┼────────┘
//!                                                       ┌──────────┴────────┐
//!                                                       │ shim ── process │ each a process
//!                                                       └───────────────────┘ of its own
//!  a heartbeat:  daemon → bus → leader (roster → registry)
//! ```
//!
//! | crate | what it is | depends on | alone depends on |
//! |---|---|---|---|
//! | [`protocol`] | what is said: plain data and pure rules | | |
//! | [`identity`] | who somebody is and how that is proved | protocol | `nkeys` |
//! | [`bus`] | how it travels: connect, reconnect, encode, decode | identity, protocol | `async-nats` |
//! | [`process`] | the operating system's end: pipes, containment, stopping a process tree | protocol | |
//! | [`screen`] | what a terminal shows, as a model: snapshots, views, text; shim and cli both draw from it | protocol | `alacritty_terminal` |
//! | [`shim`] | one durable job, in a process of its own: its pipes or terminal, its log, its end | process, protocol, screen | |
//! | [`leader`] | who is in the fleet: roster (pure), registry | bus, identity, protocol | `sqlx` |
//! | [`daemon`] | the peer: dispatcher, jobs, journal, heartbeat, policy, audit | bus, identity, leader, process, protocol, shim | |
//! | [`client`] | asking the fleet; yields typed events, prints nothing | bus, identity, protocol | |
//! | [`cli`] | the `d` command line: one file a verb, rendering | bus, client, daemon, identity, leader, process, protocol, screen | `clap` |
//!
//! Each crate is a folder below `src/`, so the compiler keeps the borders; `tests/cli/architecture.rs` holds this table
//! to the manifests. The same word at each stop: `exec` is `cli/exec.rs`, `client/exec.rs`, `protocol/exec.rs` and
//! `tests/exec/`.

pub use peerbus_bus as bus;
pub use peerbus_cli as cli;
pub use peerbus_client as client;
pub use peerbus_daemon as daemon;
pub use peerbus_identity as identity;
pub use peerbus_leader as leader;
pub use peerbus_process as process;
pub use peerbus_protocol as protocol;
pub use peerbus_screen as screen;
pub use peerbus_shim as shim;

pub use peerbus_protocol::VERSION;
