//! The operating system's end of a job.
//!
//! ```text
//!  ContainmentManager ──job_scope──▶ start(Spec, JobScope) ──▶ Started { Process, pipes }
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

mod blocking;
mod bound_child;
mod cgroup;
mod console;
mod containment;
mod detached;
mod dumpable;
mod environment;
mod explain;
mod fd_limit;
mod hierarchy;
mod holders;
pub mod host;
mod inherited_fds;
mod inspect_leftovers;
mod job;
mod job_of;
mod kill_leftovers;
mod launch;
mod lifecycle;
pub mod lock;
mod log_file;
mod members;
mod nss;
mod output_reader;
pub mod ownership;
mod pidfd;
mod process_handle;
mod process_key;
mod process_set;
mod reaper;
mod reexec;
mod resolve_cwd;
mod resolved_command;
mod signal;
mod signal_listener;
mod spec;
mod stat;
mod stdin_writer;
mod terminal;
mod terminal_support;
mod user;
mod watch;

pub use blocking::Blocking;
pub use bound_child::BoundChild;
pub use console::{CONTINUES, Console, SUSPENDS, Wait, console_size, suspend, wait_for_keys};
pub use containment::{ContainmentKind, ContainmentManager, JobScope};
pub use detached::Detached;
pub use dumpable::keep_memory_private;
pub use fd_limit::raise_descriptor_limit;
pub use inherited_fds::{
    duplicate, ignore_signals, inherited, is_ignored, reset_inherited_signals, take_stdin,
};
pub use inspect_leftovers::{cgroups_of, inhabitants, is_locked, job_scopes_of};
pub use job::{Process, Started, StartedInTerminal, start, start_in_terminal};
pub use job_of::has_started;
pub use kill_leftovers::clear;
pub use lifecycle::{CommandLifecycle, CommandOutcome, joined};
pub use lock::{HeldBy, LockError, StateLock};
pub use log_file::{LOG_LIMIT, LogFile, older, open_log};
pub use nss::keep_to_what_is_built_in;
pub use output_reader::OutputReader;
pub use pidfd::{Exit, ExitKind, Usage};
pub use process_handle::ProcessHandle;
pub use process_key::ProcessKey;
pub use process_set::{ProcessSet, Stopped};
pub use reaper::reaper_main;
pub use reexec::{FileId, be_called, become_program, hold_signals_back, let_signals_in, reap_inherited};
pub use resolve_cwd::{find_real_directory, real_directory, real_directory_main};
pub use signal::{BadSignal, Signal};
pub use signal_listener::{ReceivedSignal, Sender, SignalListener};
pub use spec::{Command, Links, Spec, StartError, Stdin};
pub use stdin_writer::StdinWriter;
pub use terminal::Terminal;
pub use terminal_support::{
    FALLBACK_LOCALE, TERMINAL_SUPPORT, TerminalSupport, find_terminal_support, terminal_support_main,
};
pub use user::user_name;
pub use watch::DirectoryWatch;
