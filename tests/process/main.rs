//! The operating system's end of a job, on the real system: every case once with a cgroup (where
//! the machine has them) and once with a reaper.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod bench;
mod blind;
mod death;
mod start;
mod surroundings;
mod terminal;
mod tree;

/// Makes two tests of a case, one for each way of keeping a job together.
macro_rules! both {
    ($($case:ident)*) => {
        mod best { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::bench::Bench::new(peerbus::process::Containment::Best)).await;
            }
        )* }
        mod reaper { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::bench::Bench::new(peerbus::process::Containment::Reaper)).await;
            }
        )* }
    };
}
use both;
