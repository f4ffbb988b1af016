//! Deadlines, outcomes and durations of one command.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn lifecycle(timeout: Option<Duration>, started: Instant) -> CommandLifecycle {
    CommandLifecycle {
        since: Some(started),
        accepted: started,
        ..CommandLifecycle::new(JobId::new(), timeout)
    }
}

fn exit(status: ExitKind) -> Exit {
    Exit { status, usage: Usage::default() }
}

#[tokio::test]
async fn the_timeout_counts_also_while_it_is_started() {
    let start = Instant::now();
    let mut lifecycle =
        CommandLifecycle { accepted: start, ..CommandLifecycle::new(JobId::new(), Some(SECOND)) };
    lifecycle.on_clock(start);
    assert!(lifecycle.stopping.is_none());
    assert_eq!(lifecycle.deadline(1), Some(start + SECOND));
    lifecycle.on_clock(start + SECOND);
    assert_eq!(lifecycle.deadline(1), None, "it takes a while to stop a command");
    assert_eq!(lifecycle.close(false).await.ending, Ending::TimedOut {});
}

#[test]
fn what_ran_is_never_said_to_have_run_for_less() {
    let start = Instant::now();
    let mut lifecycle = lifecycle(None, start + SECOND);
    lifecycle.since = Some(start);
    lifecycle.exited(start + 2 * SECOND, exit(ExitKind::Code(0)));
    assert_eq!(lifecycle.ran_for_ms(), 2000);
}

#[test]
fn a_timeout_beyond_all_clocks_is_none() {
    let start = Instant::now();
    let mut lifecycle = lifecycle(Some(Duration::from_millis(u64::MAX)), start);
    lifecycle.on_clock(start + 1_000_000 * SECOND);
    assert!(lifecycle.stopping.is_none());
}

#[tokio::test]
async fn a_timeout_counts_while_somebody_holds_the_output() {
    let start = Instant::now();
    let mut lifecycle = lifecycle(Some(SECOND), start);
    lifecycle.exited(start, exit(ExitKind::Code(3)));
    assert_eq!(lifecycle.deadline(1), None, "what nobody holds ends by itself");
    lifecycle.on_clock(start + 100 * SECOND);
    assert_eq!(lifecycle.ending(), Ending::Exited { code: 3 });
    lifecycle.is_held = true;
    assert_eq!(lifecycle.deadline(0), Some(start + SECOND), "what nobody reads is not looked at");
    assert!(lifecycle.deadline(1) < Some(start + SECOND));
    lifecycle.on_clock(start + SECOND);
    assert_eq!(lifecycle.close(true).await.ending, Ending::TimedOut {});
    assert_eq!(lifecycle.deadline(1), None);
}

#[tokio::test]
async fn what_is_stopped_while_its_output_is_held_is_cut() {
    let start = Instant::now();
    let mut lifecycle = lifecycle(None, start);
    lifecycle.exited(start, exit(ExitKind::Code(0)));
    lifecycle.is_held = true;
    lifecycle.stop(Ending::Cancelled { why: "late".to_owned() });
    let outcome = lifecycle.close(false).await;
    assert_eq!(outcome.ending, Ending::Exited { code: 0 });
    assert!(outcome.output_cut.is_some_and(|cut| cut.contains("late")));
}

#[tokio::test]
async fn what_has_ended_by_itself_was_not_stopped() {
    let start = Instant::now();
    let mut lifecycle = lifecycle(None, start);
    lifecycle.exited(start + SECOND, exit(ExitKind::Signal(15)));
    lifecycle.stop(Ending::Cancelled { why: "late".to_owned() });
    let outcome = lifecycle.close(false).await;
    assert_eq!(outcome.ending, Ending::Signalled { signal: "TERM".to_owned(), number: 15 });
    assert_eq!(outcome.duration_ms, 1000);
}

#[tokio::test]
async fn what_was_asked_first_is_how_it_ended() {
    let mut lifecycle = lifecycle(None, Instant::now());
    lifecycle.stop(Ending::TimedOut {});
    lifecycle.stop(Ending::Cancelled { why: "late".to_owned() });
    lifecycle.exited(Instant::now(), exit(ExitKind::Code(0)));
    assert_eq!(lifecycle.close(false).await.ending, Ending::TimedOut {});
}
