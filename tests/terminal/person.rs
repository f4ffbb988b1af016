//! Somebody who sits at a terminal, types, and looks at what is shown.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::pty::{Winsize, openpty};
use peerbus::protocol::TtySize;

use crate::harness::child::{Finished, Live};
use crate::harness::fleet::{DCommand, Fleet};
use crate::harness::reference::Reference;

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(90);

pub(crate) const SIZE: TtySize = TtySize { cols: 80, rows: 24 };

/// One person at one terminal, in which `d` runs.
pub(crate) struct Person {
    pub(crate) d: Live,
    terminal: File,
    seen: Arc<Seen>,
    size: TtySize,
    /// How much of what was shown has been looked for.
    mark: usize,
}

#[derive(Default)]
struct Seen {
    bytes: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

impl Person {
    pub(crate) fn sits_down(fleet: &Fleet, arguments: &[&str]) -> Person {
        Self::at(fleet.command(arguments), SIZE)
    }

    pub(crate) fn at(command: DCommand, size: TtySize) -> Person {
        Self::with(command, size, |command, theirs| {
            command.stdout(theirs.try_clone().unwrap()).stderr(theirs)
        })
    }

    /// What they see goes elsewhere: only keys come from the terminal.
    pub(crate) fn typing_only(command: DCommand) -> Person {
        Self::with(command, SIZE, |command, _| command)
    }

    fn with(
        command: DCommand,
        size: TtySize,
        connect: impl FnOnce(&mut std::process::Command, File) -> &mut std::process::Command,
    ) -> Person {
        let (d, terminal) = spawn_at(command, size, true, connect);
        let seen = Arc::new(Seen::default());
        read_all(terminal.try_clone().expect("a descriptor"), Arc::clone(&seen));
        Person { d, terminal: File::from(terminal), seen, size, mark: 0 }
    }

    pub(crate) fn types(&mut self, keys: impl AsRef<[u8]>) {
        self.terminal.write_all(keys.as_ref()).expect("typed");
    }

    pub(crate) fn resizes(&mut self, size: TtySize) {
        self.size = size;
        let size = winsize(size);
        // SAFETY: the kernel reads one structure, which lives longer than the call.
        assert!(unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } == 0);
    }

    /// Waits until these bytes were shown after those that were waited for before; returns what came
    /// between.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: impl AsRef<[u8]>) -> Vec<u8> {
        let wanted = wanted.as_ref();
        let mark = self.mark;
        let found = self.wait(|bytes| {
            let fresh = &bytes[mark..];
            fresh.windows(wanted.len()).position(|window| window == wanted)
        });
        let Some(at) = found else {
            panic!("{:?} in time; shown: {:?}", String::from_utf8_lossy(wanted), self.shown());
        };
        self.mark = mark + at + wanted.len();
        self.lock().0[mark..mark + at].to_vec()
    }

    /// Waits until the screen is as wanted; returns its rows.
    #[track_caller]
    pub(crate) fn until_screen(&mut self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let size = self.size;
        let found = self.wait(|bytes| Some(rows(bytes, size)).filter(|rows| wanted(rows)));
        found.unwrap_or_else(|| panic!("{what} in time; the screen: {:#?}", rows(&self.lock().0, size)))
    }

    /// The screen now.
    pub(crate) fn screen(&self) -> Vec<String> {
        rows(&self.lock().0, self.size)
    }

    /// Everything that was shown since the start.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().0.clone()
    }

    fn shown(&self) -> String {
        let bytes = self.lock().0.clone();
        String::from_utf8_lossy(&bytes[self.mark.saturating_sub(200)..]).into_owned()
    }

    fn wait<T>(&self, look: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let end = Instant::now() + SOON;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&state.0) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                return None;
            }
            // What it looks at may change elsewhere, too.
            let a_moment = left.min(Duration::from_millis(100));
            state = self.seen.more.wait_timeout(state, a_moment).expect("no panic elsewhere").0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        self.seen.bytes.lock().expect("no panic elsewhere")
    }

    /// Waits for the end of `d`.
    #[track_caller]
    pub(crate) fn finishes(mut self) -> (Finished, String) {
        let finished = self.d.wait(SOON);
        // What it has shown last may be on its way still.
        self.wait(|_| None::<()>);
        let shown = String::from_utf8_lossy(&self.bytes()).into_owned();
        (finished, shown)
    }

    /// Whether keys are echoed and lines edited, as at a shell.
    pub(crate) fn terminal_is_usual(&self) -> bool {
        use nix::sys::termios::{LocalFlags, tcgetattr};
        let state = tcgetattr(&self.terminal).expect("the state of the terminal");
        state.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }
}

/// Runs `d` with a terminal as its input, and whatever else is connected to it; returns the other end of that. Where
/// it is not the one that controls `d`, nothing tells `d` that it was closed.
pub(crate) fn spawn_at(
    command: DCommand,
    size: TtySize,
    controls: bool,
    connect: impl FnOnce(&mut std::process::Command, File) -> &mut std::process::Command,
) -> (Live, OwnedFd) {
    let pair = openpty(Some(&winsize(size)), None).expect("a terminal");
    let theirs = File::from(pair.slave);
    // Else `d` itself would keep it open.
    fcntl(&pair.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a flag");
    let d = command.with(|command| {
        if !command.get_envs().any(|(name, value)| name == "TERM" && value.is_some()) {
            command.env("TERM", "xterm-256color");
        }
        command.stdin(Stdio::from(theirs.try_clone().unwrap()));
        connect(command, theirs);
        // SAFETY: plain system calls, as a login makes them.
        unsafe {
            command.pre_exec(move || {
                libc::setsid();
                if controls {
                    libc::ioctl(0, libc::TIOCSCTTY, 0);
                }
                Ok(())
            });
        }
    });
    (d.spawn(), pair.master)
}

fn read_all(from: OwnedFd, seen: Arc<Seen>) {
    std::thread::spawn(move || {
        let mut from = File::from(from);
        let mut buffer = vec![0; 65536];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let mut state = seen.bytes.lock().expect("no panic elsewhere");
            state.0.extend_from_slice(&buffer[..count]);
            state.1 = count == 0;
            seen.more.notify_all();
            if count == 0 {
                return;
            }
        }
    });
}

fn winsize(size: TtySize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 }
}

/// What a terminal of this size shows.
fn rows(bytes: &[u8], size: TtySize) -> Vec<String> {
    let mut terminal = Reference::new(size);
    terminal.feed(bytes);
    terminal.into_state().text()
}
