//! The position of this process in the cgroup hierarchy.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::cgroup::children;

/// Prefix of the directory of a daemon's jobs; [`BASE_DIGITS`] of its state directory's digest follow.
pub(super) const BASE_PREFIX: &str = "peerbus-";

/// Enough hexadecimal digits to avoid collisions of state directories.
pub(super) const BASE_DIGITS: usize = 16;

/// Prefix of the directory of one job; the job id follows.
pub(super) const JOB_PREFIX: &str = "job-";

/// The directory of all shims.
pub(super) const SHIMS: &str = "shims";

/// The directory of this process' own cgroup, if version 2 is mounted and visible.
pub(super) fn own_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    own_cgroup_in(&mounts, &membership)
}

/// The parent cgroup for a daemon's jobs: its own cgroup. Exception: a daemon that was started by a job, for
/// example by an update over the bus, leaves that job's cgroup, because stopping the job must not stop the
/// daemon.
pub(super) fn home_cgroup() -> Option<PathBuf> {
    let own = own_cgroup()?;
    let home = outside_jobs(&own);
    if home != own && fs::write(home.join("cgroup.procs"), "0").is_err() {
        return Some(own);
    }
    Some(home)
}

/// All reachable cgroups of this name, anywhere in the hierarchy.
pub(super) fn all_named(name: &str) -> Vec<PathBuf> {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return Vec::new() };
    let mut found = Vec::new();
    let mut next: Vec<PathBuf> = mounts.lines().filter_map(cgroup2_mount).map(|(_, point)| point).collect();
    while let Some(path) = next.pop() {
        // An unreadable cgroup is not ours.
        for child in children(&path).unwrap_or_default() {
            match child.file_name() {
                Some(own) if own == name => found.push(child),
                _ => next.push(child),
            }
        }
    }
    found
}

fn own_cgroup_in(mounts: &str, membership: &str) -> Option<PathBuf> {
    let own = Path::new(membership.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().filter_map(cgroup2_mount).find_map(|(root, point)| {
        let below = own.strip_prefix(root).ok()?;
        // A process outside the namespace's root appears with `..` and is unreachable.
        let visible = below.components().all(|part| matches!(part, Component::Normal(_)));
        visible.then(|| if below.as_os_str().is_empty() { point.clone() } else { point.join(below) })
    })
}

/// Root and mount point from a line of mountinfo, if it is a cgroup 2 mount.
fn cgroup2_mount(line: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3).map(unescaped);
    Some((fields.next()?.into(), fields.next()?.into()))
}

/// Decodes the octal escapes of blanks, tabs, newlines and backslashes.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

fn outside_jobs(cgroup: &Path) -> PathBuf {
    let parts: Vec<Component<'_>> = cgroup.components().collect();
    let name = |part: &Component<'_>| part.as_os_str().to_string_lossy().into_owned();
    let is_job = |pair: &[Component<'_>]| matches!(pair, [base, job] if is_base(&name(base)) && name(job).starts_with(JOB_PREFIX));
    match parts.windows(2).position(is_job) {
        Some(at) => parts.iter().take(at).collect(),
        None => cgroup.to_owned(),
    }
}

fn is_base(name: &str) -> bool {
    name.strip_prefix(BASE_PREFIX)
        .is_some_and(|rest| rest.len() == BASE_DIGITS && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";
    const UNIFIED: &str = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_own_cgroup_is_found_in_both_layouts() {
        let own = own_cgroup_in(HYBRID, "9:name=systemd:/x\n1:cpu:/y\n0::/\n");
        assert_eq!(own, Some("/sys/fs/cgroup/unified".into()));
        let own = own_cgroup_in(UNIFIED, "0::/system.slice/peerbus.service\n");
        assert_eq!(own, Some("/sys/fs/cgroup/system.slice/peerbus.service".into()));
    }

    #[test]
    fn a_bind_mounted_part_is_understood() {
        let mounts = "35 24 0:30 /docker/abc /my\\040cgroups rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_cgroup_in(mounts, "0::/docker/abc/x\n"), Some("/my cgroups/x".into()));
        assert_eq!(own_cgroup_in(mounts, "0::/elsewhere\n"), None);
    }

    #[test]
    fn what_is_out_of_reach_is_none() {
        assert_eq!(own_cgroup_in(UNIFIED, "0::/../other\n"), None);
        assert_eq!(own_cgroup_in(UNIFIED, "4:memory:/x\n"), None);
        assert_eq!(own_cgroup_in("", "0::/\n"), None);
    }

    #[test]
    fn a_daemon_started_by_a_job_belongs_beside_it() {
        let outside = |text| outside_jobs(Path::new(text));
        let unit = "/sys/fs/cgroup/peerbus-w1.slice/peerbus.service";
        assert_eq!(outside(unit), Path::new(unit));
        assert_eq!(
            outside("/sys/fs/cgroup/a/peerbus-0123456789abcdef/job-x/y"),
            Path::new("/sys/fs/cgroup/a")
        );
        assert_eq!(outside("/sys/fs/cgroup/peerbus-unit"), Path::new("/sys/fs/cgroup/peerbus-unit"));
        assert_eq!(outside("/sys/fs/cgroup/a"), Path::new("/sys/fs/cgroup/a"));
    }
}
