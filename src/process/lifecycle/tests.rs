//! Deadlines, endings and times of one command.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn course(timeout: Option<Duration>, started: Instant) -> CommandLifecycle {
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
    let mut course =
        CommandLifecycle { accepted: start, ..CommandLifecycle::new(JobId::new(), Some(SECOND)) };
    course.on_clock(start);
    assert!(course.stopping.is_none());
    assert_eq!(course.deadline(1), Some(start + SECOND));
    course.on_clock(start + SECOND);
    assert_eq!(course.deadline(1), None, "it takes a while to stop a command");
    assert_eq!(course.close(false).await.ending, Ending::TimedOut {});
}

#[test]
fn what_ran_is_never_said_to_have_run_for_less() {
    let start = Instant::now();
    let mut course = course(None, start + SECOND);
    course.since = Some(start);
    course.exited(start + 2 * SECOND, exit(ExitKind::Code(0)));
    assert_eq!(course.ran_for_ms(), 2000);
}

#[test]
fn a_timeout_beyond_all_clocks_is_none() {
    let start = Instant::now();
    let mut course = course(Some(Duration::from_millis(u64::MAX)), start);
    course.on_clock(start + 1_000_000 * SECOND);
    assert!(course.stopping.is_none());
}

#[tokio::test]
async fn a_timeout_counts_while_somebody_holds_the_output() {
    let start = Instant::now();
    let mut course = course(Some(SECOND), start);
    course.exited(start, exit(ExitKind::Code(3)));
    assert_eq!(course.deadline(1), None, "what nobody holds ends by itself");
    course.on_clock(start + 100 * SECOND);
    assert_eq!(course.ending(), Ending::Exited { code: 3 });
    course.is_held = true;
    assert_eq!(course.deadline(0), Some(start + SECOND), "what nobody reads is not looked at");
    assert!(course.deadline(1) < Some(start + SECOND));
    course.on_clock(start + SECOND);
    assert_eq!(course.close(true).await.ending, Ending::TimedOut {});
    assert_eq!(course.deadline(1), None);
}

#[tokio::test]
async fn what_is_stopped_while_its_output_is_held_is_cut() {
    let start = Instant::now();
    let mut course = course(None, start);
    course.exited(start, exit(ExitKind::Code(0)));
    course.is_held = true;
    course.stop(Ending::Cancelled { why: "late".to_owned() });
    let outcome = course.close(false).await;
    assert_eq!(outcome.ending, Ending::Exited { code: 0 });
    assert!(outcome.output_cut.is_some_and(|cut| cut.contains("late")));
}

#[tokio::test]
async fn what_has_ended_by_itself_was_not_stopped() {
    let start = Instant::now();
    let mut course = course(None, start);
    course.exited(start + SECOND, exit(ExitKind::Signal(15)));
    course.stop(Ending::Cancelled { why: "late".to_owned() });
    let outcome = course.close(false).await;
    assert_eq!(outcome.ending, Ending::Signalled { signal: "TERM".to_owned(), number: 15 });
    assert_eq!(outcome.duration_ms, 1000);
}

#[tokio::test]
async fn what_was_asked_first_is_how_it_ended() {
    let mut course = course(None, Instant::now());
    course.stop(Ending::TimedOut {});
    course.stop(Ending::Cancelled { why: "late".to_owned() });
    course.exited(Instant::now(), exit(ExitKind::Code(0)));
    assert_eq!(course.close(false).await.ending, Ending::TimedOut {});
}
