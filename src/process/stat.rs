//! Parses `/proc/<pid>/stat`.
//!
//! One read is a consistent snapshot of one process, so parent, group and start time always come from the
//! same read.

use std::fs;
use std::io;

use nix::libc;

/// The fields that identify and locate a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    /// In clock ticks since boot. Together with the pid it identifies one process until the next boot.
    pub(super) start_time: u64,
    /// False for a zombie, which runs nothing and cannot be signalled.
    pub(super) is_running: bool,
    /// Whether the process only waits for a processor.
    pub(super) is_runnable: bool,
}

impl Stat {
    /// Whether it is a kernel thread: pid 2, or a child of pid 2.
    pub(super) fn is_of_kernel(&self) -> bool {
        self.pid == 2 || self.parent == 2
    }

    /// Reads one process; `None` if it does not exist, or the system hides it.
    ///
    /// # Errors
    /// When it cannot be read, for example for lack of descriptors: it may still exist.
    pub(super) fn of(pid: u32) -> io::Result<Option<Self>> {
        let path = format!("/proc/{pid}/stat");
        match fs::read(&path) {
            Ok(line) => Self::parse(&line).map(Some).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{path} cannot be understood"))
            }),
            Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads all processes. One that starts or exits meanwhile may be missing.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub(super) fn all() -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for entry in fs::read_dir("/proc")? {
            if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                all.extend(Self::of(pid)?);
            }
        }
        Ok(all)
    }

    /// The program name comes second, in parentheses, and may itself contain parentheses and spaces: count
    /// the fields from the last closing one.
    fn parse(line: &[u8]) -> Option<Self> {
        let name_end = line.iter().rposition(|&byte| byte == b')')?;
        let pid =
            std::str::from_utf8(line.get(..line.iter().position(|&b| b == b' ')?)?).ok()?.parse().ok()?;
        let rest = std::str::from_utf8(line.get(name_end + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Field 3 of proc(5), the state, comes first here.
        let field = |number: usize| fields.get(number - 3).copied();
        let threads: u32 = field(20)?.parse().ok()?;
        let is_running = match field(3)? {
            // A main thread that exited before the others looks like a zombie.
            "Z" => threads > 1,
            "X" | "x" => false,
            // The kernel has just released it: no thread is left.
            _ => threads > 0,
        };
        // Then the kernel reports -1 for group and session.
        let id = |number| field(number)?.parse::<i64>().ok().map(|id| u32::try_from(id).unwrap_or_default());
        Some(Self {
            pid,
            parent: field(4)?.parse().ok()?,
            group: id(5)?,
            session: id(6)?,
            start_time: field(22)?.parse().ok()?,
            is_running,
            is_runnable: field(3)? == "R",
        })
    }
}

/// Whether an error means that a process or file does not exist, or disappeared during the read.
pub(super) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let line = b"17 (a) R 1 (b c\xff) S 5 17 18 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 1\n";
        let stat = Stat::parse(line).expect("a stat line");
        assert_eq!(
            stat,
            Stat {
                pid: 17,
                parent: 5,
                group: 17,
                session: 18,
                start_time: 4242,
                is_running: true,
                is_runnable: false
            }
        );
    }

    #[test]
    fn a_zombie_runs_only_while_it_has_threads() {
        let line = |threads| format!("1 (x) Z 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 7 0 0");
        assert!(!Stat::parse(line(1).as_bytes()).expect("a stat line").is_running);
        assert!(Stat::parse(line(2).as_bytes()).expect("a stat line").is_running);
    }

    #[test]
    fn torn_lines_are_no_process() {
        for line in ["", "1", "1 (x", "1 (x) R", "1 (x) R 1 1", ") (", "x (x) R 1 1 1"] {
            assert_eq!(Stat::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn one_that_goes_while_it_is_looked_at_is_understood() {
        let line = b"28145 (d) R 0 -1 -1 0 -1 4228108 30 0 0 0 0 0 0 0 20 0 0 0 5361234 0 0 0 0 0";
        let stat = Stat::parse(line).expect("understood");
        assert_eq!((stat.pid, stat.group, stat.start_time, stat.is_running), (28145, 0, 5_361_234, false));
    }

    #[test]
    fn this_process_is_among_all() {
        let own = Stat::of(std::process::id()).expect("readable").expect("own stat");
        assert!(
            Stat::all()
                .expect("readable")
                .iter()
                .any(|stat| stat.pid == own.pid && stat.start_time == own.start_time)
        );
    }
}
