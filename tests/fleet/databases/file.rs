//! What only a file can be: on a disk that is read-only, or that has no room.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::databases::bench::{LATE, leader, run};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::wait::eventually;

/// A small file system of its own; gone when this is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(place: &Path) -> SmallDisk {
        mount(place, &["-t", "tmpfs", "-o", "size=1m,mode=0700", "none"]);
        SmallDisk(place.to_owned())
    }

    fn remount(&self, how: &str) {
        mount(&self.0, &["-o", &format!("remount,{how}")]);
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut file = File::create(self.0.join("filling")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filling")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(place: &Path, how: &[&str]) {
    let mounted = Command::new("mount").args(how).arg(place).status().unwrap();
    assert!(mounted.success(), "this test needs the right to mount");
}

/// The ids in a file, as another program would read it.
fn ids(url: &str) -> Vec<String> {
    run(async {
        let rows = crate::databases::bench::load(&mut crate::databases::bench::open(url).await).await;
        rows.iter().map(|row| row.peer_id.to_string()).collect()
    })
}

#[test]
fn a_file_on_a_read_only_disk_is_read_and_written_later() {
    let fleet = Fleet::builder().start();
    let disk = SmallDisk::at(&fleet.directory("disk"));
    let url = format!("sqlite://{}/registry.db", disk.0.display());
    run(async {
        let mut registry = crate::databases::bench::open(&url).await;
        registry.save(&[crate::databases::bench::row("asleep")]).await.unwrap();
        registry.close().await;
    });
    disk.remount("ro");
    let leader = fleet.add(leader(&url));
    fleet.wait_for_states(&[("asleep", "offline"), ("lead", "online")], LATE);
    let said = leader.wait_for_line(LATE, |line| line.contains("trying again until it works"));
    assert!(said.contains("readonly") && said.contains("registry.db"), "{said}");
    disk.remount("rw");
    leader.wait_for_line(LATE, |line| line.contains("the registry is back"));
    assert_eq!(ids(&url), ["asleep", "lead"]);
    assert_eq!(leader.stderr().matches("trying again until it works").count(), 1, "{}", leader.stderr());
    leader.terminate().expect_success();
}

#[test]
fn a_disk_without_room_is_waited_for() {
    let fleet = Fleet::builder().start();
    let disk = SmallDisk::at(&fleet.directory("disk"));
    let url = format!("sqlite://{}/registry.db", disk.0.display());
    let leader = fleet.add(leader(&url));
    fleet.wait_for_states(&[("lead", "online")], LATE);
    eventually(LATE, "the leader to be written", || (ids(&url) == ["lead"]).then_some(()));
    disk.fill();
    fleet.add(DaemonOptions::worker("w1"));
    let said = leader.wait_for_line(LATE, |line| line.contains("trying again until it works"));
    assert!(said.contains("full") || said.contains("I/O error"), "{said}");
    fleet.wait_for_states(&[("lead", "online"), ("w1", "online")], LATE);
    disk.free();
    leader.wait_for_line(LATE, |line| line.contains("the registry is back"));
    eventually(LATE, "both to be written", || (ids(&url) == ["lead", "w1"]).then_some(()));
    assert_eq!(leader.stderr().matches("trying again until it works").count(), 1, "{}", leader.stderr());
    leader.terminate().expect_success();
}
