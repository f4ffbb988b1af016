//! Runs the processes of jobs.
//!
//! ```text
//!  ContainmentManager ──job_scope──▶ start(Spec, JobScope) ──▶ Started { Process, pipes }
//!                         │ cgroup: clone3 into it      Process ────── exited(), can be called again
//!                         │ else:   a reaper            ProcessSet ─── signal, count, stop, release
//!                         ▼
//!                       resolved_command (before the fork) → launch (fork, exec) → explain (errors)
//!  CommandLifecycle ── exit, stop, timeout, processes left running, holders of the output
//!  OutputReader ────── reads stdout and stderr in the order in which bytes arrive
//!  StdinWriter ─────── writes stdin
//! ```
//!
//! Guarantees: a command gets a clean environment and its own session. It inherits no descriptors of the
//! daemon except its three pipes or the terminal of its session. Every process that a job starts can be
//! counted, signalled and stopped, even one in a session of its own. A reused pid is never signalled. After a
//! daemon's death [`clear()`] stops the processes it left behind.
//!
//! Limits: Linux 5.4 or newer. A root job can leave its cgroup. A job that removes `PEERBUS_JOB` from its
//! environment cannot be found again if both daemon and reaper are killed. This crate knows nothing about the
//! bus, the policy or the meaning of output.

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
