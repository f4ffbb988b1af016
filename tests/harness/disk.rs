//! A small disk that can be filled and emptied.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system, unmounted when this is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts it on a directory.
    #[track_caller]
    pub fn at(place: &Path) -> SmallDisk {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "none"])
            .arg(place)
            .status();
        assert!(mounted.unwrap().success(), "this test needs the right to mount");
        SmallDisk(place.to_owned())
    }

    /// Fills it up.
    pub fn fill(&self) {
        let append = |name: &str| File::options().create(true).append(true).open(self.0.join(name)).unwrap();
        let mut file = append("filling");
        while file.write_all(&[0; 4096]).is_ok() {}
        let mut odd = append("filling-more");
        while odd.write_all(&[0]).is_ok() {}
    }

    /// Frees the space again.
    pub fn free(&self) {
        fs::remove_file(self.0.join("filling")).unwrap();
        fs::remove_file(self.0.join("filling-more")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
