//! A file system that never answers, like one of a dead file server or a hung FUSE program.
//!
//! A FUSE server of the test's own reads each request and answers only the first one, which sets up
//! the connection. A process that waits for an answer sleeps in the kernel, and even SIGKILL does
//! not end it until the mount is gone.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounted until this is dropped; then every process that waits for it gets an error.
pub struct DeadMount(PathBuf);

impl DeadMount {
    /// Mounts it on a new directory; only root can.
    #[track_caller]
    pub fn at(place: &Path) -> DeadMount {
        std::fs::create_dir(place).unwrap();
        let device =
            File::options().read(true).write(true).open("/dev/fuse").expect("this test needs /dev/fuse");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
        mount(Some("dead"), place, Some("fuse"), MsFlags::empty(), Some(options.as_str()))
            .expect("this test needs the right to mount");
        std::thread::spawn(move || serve(device));
        DeadMount(place.to_owned())
    }

    /// A path below it; every access to it hangs.
    pub fn path(&self) -> PathBuf {
        self.0.join("x")
    }
}

/// Ends with the connection, when reading the device fails.
fn serve(mut device: File) {
    let mut request = vec![0; 1 << 20];
    while let Ok(length) = device.read(&mut request) {
        if let Some(answer) = first_answer(&request[..length]) {
            device.write_all(&answer).unwrap();
        }
    }
}

/// The answer to `FUSE_INIT`; see `linux/fuse.h`.
fn first_answer(request: &[u8]) -> Option<Vec<u8>> {
    const INIT: u32 = 26;
    const LENGTH: u32 = 16 + 64;
    let number = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
    if number(4) != INIT {
        return None;
    }
    let mut answer = Vec::new();
    answer.extend(LENGTH.to_ne_bytes());
    answer.extend(0_u32.to_ne_bytes());
    answer.extend(&request[8..16]);
    // The version, without any optional features.
    for word in [7, number(44).min(31), 0, 0] {
        answer.extend(word.to_ne_bytes());
    }
    answer.resize(LENGTH as usize, 0);
    Some(answer)
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH);
    }
}
