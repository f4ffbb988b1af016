//! The operating system's end of a job.
//!
//! ```text
//!  Nursery ──lodging──▶ start(Spec, Lodging) ──▶ Started { Process, pipes }
//!                         │ cgroup: clone3 into it      Process ── exited(), once or often
//!                         │ else:   a reaper            Tree ───── signal, count, stop, release
//!                         ▼
//!                       plan (before the fork) → launch (fork, exec) → explain (why not)
//!  Course ─── what a command came to: exit, stop, timeout, what is left running and waited for
//!  Taps ───── its two outputs, in the order in which they come
//!  Feed ───── its input
//! ```
//!
//! Guarantees: a command gets a clean environment, its own session, and nothing of the daemon's but
//! its three pipes, or a terminal that is its session's own. Whatever it starts can be counted, signalled and stopped, also what began a
//! session of its own. A pid that was given to another process is never signalled. After a daemon's
//! death [`clear()`] ends what it left behind.
//!
//! Limits: Linux 5.4 or newer. A job of root can leave its cgroup, and a job that removes
//! `PEERBUS_JOB` from its environment is not found again if daemon and reaper are both killed.
//! This folder knows nothing of the bus, of policies, nor of what output means.

mod account;
mod blocking;
mod cgroup;
mod clear;
mod companion;
mod console;
mod course;
mod descriptors;
mod detached;
mod environment;
mod explain;
mod feed;
mod hierarchy;
mod holders;
pub mod host;
mod identity;
mod inherited;
mod job;
mod launch;
pub mod lock;
mod log_file;
mod lookup;
mod members;
mod memory;
mod nursery;
mod other;
pub mod ownership;
mod pidfd;
mod place;
mod plan;
mod reaper;
mod remains;
mod replace;
mod signal;
mod signal_listener;
mod spec;
mod stat;
mod taps;
mod terminal;
mod tree;
mod watch;

pub use account::user_name;
pub use blocking::Blocking;
pub use clear::clear;
pub use companion::Companion;
pub use console::{CONTINUES, Console, SUSPENDS, Wait, console_size, suspend, wait_for_keys};
pub use course::{Course, Outcome, joined};
pub use descriptors::raise_descriptor_limit;
pub use detached::Detached;
pub use feed::Feed;
pub use identity::Identity;
pub use inherited::{duplicate, ignore_signals, inherited, is_ignored, reset_inherited_signals, take_stdin};
pub use job::{Process, Started, StartedInTerminal, start, start_in_terminal};
pub use lock::{HeldBy, LockError, StateLock};
pub use log_file::{LOG_LIMIT, LogFile, older, open_log};
pub use lookup::keep_to_what_is_built_in;
pub use memory::keep_memory_private;
pub use nursery::{Containment, Lodging, Nursery};
pub use other::OtherProcess;
pub use pidfd::{Exit, ExitKind, Usage};
pub use place::{find_real_directory, real_directory, real_directory_main};
pub use reaper::reaper_main;
pub use remains::{cgroups_of, inhabitants, is_locked, lodgings_of};
pub use replace::{FileId, be_called, become_program, hold_signals_back, let_signals_in, reap_inherited};
pub use signal::{BadSignal, Signal};
pub use signal_listener::{ReceivedSignal, Sender, SignalListener};
pub use spec::{Command, Links, Spec, StartError, Stdin};
pub use taps::Taps;
pub use terminal::Terminal;
pub use tree::{Stopped, Tree};
pub use watch::DirectoryWatch;
