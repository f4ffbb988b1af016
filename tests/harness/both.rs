//! Runs each case once with a cgroup, if the machine has them, and once with a reaper.

/// Makes two tests from a case, one for each way to contain a job. The case takes a `Bench`.
#[macro_export]
macro_rules! both {
    ($($case:ident)*) => {
        mod best { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Bench::new(peerbus::process::ContainmentKind::Best)).await;
            }
        )* }
        mod reaper { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Bench::new(peerbus::process::ContainmentKind::Reaper)).await;
            }
        )* }
    };
}
