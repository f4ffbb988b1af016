//! What the cases have in common: commands with known output, and looks at their traces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::child::{Finished, Live};
use crate::harness::fleet::{DCommand, DaemonOptions, Fleet};
use crate::harness::nats::{Message, Raw};
use crate::harness::wait::eventually;

/// Long enough for anything that must happen, on a busy machine too.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Prints numbered lines on both outputs until a file `stop` appears, then how many it were.
const COUNTING: &str = "i=0; while [ ! -e stop ]; do i=$((i+1)); echo line $i; echo note $i >&2; \
    read -t 0.005 <> fifo; done; echo all $i; exit 7";

/// Waits for a file `go`, noting in a file `ran` that it began.
pub(crate) const WAITING: &str = "echo $$ >> ran; until [ -e go ]; do sleep 0.02; done";

/// A worker `w1` and `d`, each with a link of its own that can be cut.
pub(crate) fn with_links() -> Fleet {
    Fleet::builder().daemon(DaemonOptions::worker("w1").through_relay()).client_relay().start()
}

/// `d exec w1` of a shell line, in the fleet's directory.
pub(crate) fn exec(fleet: &Fleet, line: &str) -> DCommand {
    fleet.command(["exec", "w1", "-C", fleet.path().to_str().unwrap(), "--sh", line])
}

/// The output of `seq 1 LAST`: no part of it looks like another.
pub(crate) fn sequence(last: u32) -> Vec<u8> {
    Command::new("seq").args(["1", &last.to_string()]).output().unwrap().stdout
}

/// Fails the test unless `d` ended with code 0 and wrote exactly these bytes.
#[track_caller]
pub(crate) fn expect_exact(live: &mut Live, wanted: &[u8], deadline: Duration) -> Finished {
    let finished = live.wait(deadline).expect_success();
    assert_eq!(live.stdout.total(), wanted.len() as u64, "{finished:?}");
    assert_eq!(live.stdout.digest(), blake3::hash(wanted).to_hex().to_string());
    finished
}

/// A command that counts, followed by `d`.
pub(crate) fn count(fleet: &Fleet) -> Live {
    nix::unistd::mkfifo(&fleet.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut live = exec(fleet, COUNTING).spawn();
    live.stdout_line(SOON, |line| line == "line 3");
    live
}

/// A command that says something, is silent until a file `go` appears, and says more: the output of
/// `seq 1 10000`. Returns when the first half has come.
pub(crate) fn half_and_half(command: impl FnOnce(&str) -> DCommand) -> Live {
    let mut live = begin_halves(command);
    wait_for_half(&mut live);
    live
}

/// The same, returning at once.
pub(crate) fn begin_halves(command: impl FnOnce(&str) -> DCommand) -> Live {
    command(&format!("seq 1 5000; {WAITING}; seq 5001 10000")).spawn()
}

/// Waits for the first half.
#[track_caller]
pub(crate) fn wait_for_half(live: &mut Live) {
    live.stdout_line(SOON, |line| line == "5000");
}

/// Waits until output goes on beyond what has come so far.
#[track_caller]
pub(crate) fn expect_more(live: &mut Live) {
    let now = live.stdout.total();
    live.stdout_reaches(now + 500, SOON);
}

/// Ends a command that counts; not a line of it may be missing, double or in the wrong place.
#[track_caller]
pub(crate) fn expect_every_line(fleet: &Fleet, live: &mut Live) {
    std::fs::write(fleet.path().join("stop"), "").unwrap();
    let finished = live.wait(SOON).expect_code(7);
    let (out, mut count) = (finished.out(), 0);
    for line in out.lines().take_while(|line| !line.starts_with("all")) {
        count += 1;
        assert_eq!(line, format!("line {count}"));
    }
    assert!(out.ends_with(&format!("\nall {count}\n")), "the last line");
    let notes: String = (1..=count).map(|number| format!("note {number}\n")).collect();
    assert!(finished.err() == notes, "stderr differs: {finished:?}");
}

/// How many lines a file has; none when it is not there.
pub(crate) fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// Waits until the command in the fleet's directory has noted that it began.
#[track_caller]
pub(crate) fn wait_until_ran(fleet: &Fleet) {
    eventually(SOON, "the command to begin", || (lines(&fleet.path().join("ran")) > 0).then_some(()));
}

pub(crate) fn job_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A plain request for a shell line in the fleet's directory.
pub(crate) fn request(fleet: &Fleet, id: &str, line: &str) -> Value {
    json!({ "id": id, "directory": fleet.path(), "shell_cmd": line })
}

/// Runs a shell line by a plain request.
#[track_caller]
pub(crate) fn plain(fleet: &Fleet, line: &str) -> Message {
    let request = request(fleet, &job_id(), line).to_string();
    Raw::connect(&fleet.server().url()).request("exec.w1", request, SOON)
}

/// The word of a refusal, such as `conflict`; none when the answer is none.
pub(crate) fn refusal(answer: &Message) -> Option<String> {
    Some(answer.json()["ending"]["refused"]["why"].as_str()?.to_owned())
}

/// What the peer says of a job.
#[track_caller]
pub(crate) fn kept(fleet: &Fleet, id: &str) -> Message {
    Raw::connect(&fleet.server().url()).request(&format!("exec.w1.{id}.result"), "", SOON)
}

/// The ids below a directory of the journal.
pub(crate) fn journalled(fleet: &Fleet, which: &str) -> Vec<String> {
    let directory = fleet.daemon("w1").state_directory().join("journal").join(which);
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The directory of the cgroups of the daemon's jobs; none where they live below reapers.
pub(crate) fn cgroups_of(fleet: &Fleet) -> Option<PathBuf> {
    let answer = plain(fleet, "cat /proc/self/cgroup").json();
    let own = answer["stdout"].as_str()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let below = path.rsplit_once("/job-")?.0;
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|mount| mount[2] == "cgroup2")?;
    Some(Path::new(mount[1]).join(below))
}
