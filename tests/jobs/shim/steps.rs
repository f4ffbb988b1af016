//! Tasks: commands that one shim runs one after the other.

use std::time::Duration;

use peerbus::process::{Command, Spec, clear};
use peerbus::protocol::Ending;
use peerbus::protocol::ending::StartFailure;
use peerbus::protocol::frame::StreamKind;
use peerbus::protocol::task::StepProgress;
use peerbus::shim::messages::{StepSpec, TaskSpec};
use peerbus::shim::{Found, FromShim, JobSpec, ToShim};

use crate::harness::both;
use crate::harness::procs;
use crate::shim::bench::{Along, Bench, PATIENCE, ended, gone, kill_shim, next};

both! {
    each_step_begins_where_the_one_before_ended_well
    what_a_step_has_left_is_stopped_with_the_job
    a_shim_that_dies_takes_what_every_step_has_left
    a_step_that_cannot_be_started_is_named
    nothing_begins_once_the_job_is_to_end
}

/// An order for several lines.
fn task(bench: &Bench, lines: &[&str]) -> JobSpec {
    let order = bench.order(lines[0]);
    let step = |line: &&str| StepSpec {
        spec: Spec {
            command: Command::Shell { shell: None, line: (*line).to_owned() },
            ..order.spec.clone()
        },
        timeout_ms: None,
    };
    let then: Vec<StepSpec> = lines[1..].iter().map(step).collect();
    let of = u32::try_from(lines.len()).expect("few");
    let task = TaskSpec { name: "up".to_owned(), peer: "vps".parse().expect("an id"), of, then };
    JobSpec { task: Some(task), ..order }
}

async fn each_step_begins_where_the_one_before_ended_well(bench: Bench) {
    let order = task(
        &bench,
        &[
            "echo one; sleep 0.01 & echo -n half >&2",
            "echo two; printf '\\a' >&2",
            "kill -9 $$",
            "echo never",
        ],
    );
    let mut link = bench.start(&order);
    let mut reached = link.hello().step.into_iter().collect::<Vec<_>>();
    let ended = loop {
        match next(&mut link).await.expect("a word before the end") {
            FromShim::Step(step) => reached.push(step),
            FromShim::Ended(ended) => break *ended,
            _ => {}
        }
    };
    assert_eq!(reached, [1, 2, 3].map(|n| StepProgress { n, of: 4 }));
    assert_eq!(ended.ending, Ending::Signalled { signal: "KILL".to_owned(), number: 9 });
    let mut along = Along::of(&bench.place(&order));
    along.read_on();
    along.must_be_all_of(&ended);
    assert_eq!(along.text(StreamKind::Out), "one\ntwo\n");
    assert_eq!(
        along.text(StreamKind::Err),
        "d: vps: up 1/4 in /: echo one; sleep 0.01 & echo -n half >&2\nhalf\n\
         d: vps: up 2/4 in /: echo two; printf '\\a' >&2\n\u{7}\n\
         d: vps: up 3/4 in /: kill -9 $$\nd: vps: up stopped at step 3 of 4: the signal KILL ended it\n"
    );
}

async fn what_a_step_has_left_is_stopped_with_the_job(bench: Bench) {
    let order = task(
        &bench,
        &[
            "sleep 1000 > /dev/null 2>&1 & setsid sleep 1000 > /dev/null 2>&1 &",
            "sleep 1000 2>/dev/null >&2 &",
            "true",
            "echo last; sleep 1000",
        ],
    );
    let mut link = bench.start(&order);
    while next(&mut link).await != Some(FromShim::Step(StepProgress { n: 4, of: 4 })) {}
    let job = order.spec.job.to_string();
    let sleeps = || {
        let all = procs::of_job(&job).into_iter();
        all.filter(|process| process.arguments.first().is_some_and(|word| word == "sleep")).count()
    };
    crate::harness::wait::eventually(PATIENCE, "all four", || (sleeps() == 4).then_some(()));
    link.say(ToShim::Stop { ending: Ending::Cancelled { why: "enough".to_owned() } });
    let ended = ended(&mut link).await;
    assert_eq!(ended.ending, Ending::Cancelled { why: "enough".to_owned() });
    assert!(ended.killed >= 4 && ended.left_running == 0, "{ended:?}");
    assert_eq!(procs::of_job(&job), []);
}

async fn a_shim_that_dies_takes_what_every_step_has_left(bench: Bench) {
    let order = task(&bench, &["sleep 1000 > /dev/null 2>&1 &", "echo; sleep 1000"]);
    let mut link = bench.start(&order);
    while next(&mut link).await != Some(FromShim::Step(StepProgress { n: 2, of: 2 })) {}
    kill_shim(&link);
    let Found::Died { job_scope, .. } = gone(&bench, &order).await else { panic!("it was killed") };
    let job_scope = job_scope.expect("it is written down");
    assert_eq!(job_scope, order.job_scope.of_command(2));
    let cleared = tokio::time::timeout(PATIENCE, clear(&job_scope, Duration::from_secs(5))).await;
    cleared.expect("in time").expect("cleared");
    procs::wait_until_job_gone(&order.spec.job.to_string(), PATIENCE);
}

async fn a_step_that_cannot_be_started_is_named(bench: Bench) {
    let mut order = task(&bench, &["echo here", "true"]);
    if let Some(task) = &mut order.task {
        task.then[0].spec.directory = "/nowhere".to_owned();
    }
    let ended = ended(&mut bench.start(&order)).await;
    let Ending::NotStarted { why, message } = &ended.ending else { panic!("{ended:?}") };
    assert_eq!(*why, StartFailure::NoSuchDirectory);
    assert!(message.starts_with("step 2 of 2: entering directory /nowhere"), "{message}");
    let mut along = Along::of(&bench.place(&order));
    along.read_on();
    along.must_be_all_of(&ended);
    assert_eq!(along.text(StreamKind::Out), "here\n");
    assert!(
        along.text(StreamKind::Err).ends_with("d: vps: up stopped at step 2 of 2: it could not be started\n")
    );
}

/// It has ended by itself, and what it left holds the output open: somebody stops the job in that moment.
async fn nothing_begins_once_the_job_is_to_end(bench: Bench) {
    let order = task(&bench, &["echo here; sleep 1000 &", "echo never"]);
    let mut link = bench.start(&order);
    crate::shim::bench::logged(&bench, &order, |end| end.out == 5).await;
    link.say(ToShim::Stop { ending: Ending::Cancelled { why: "enough".to_owned() } });
    let ended = ended(&mut link).await;
    assert_eq!(ended.ending, Ending::Cancelled { why: "enough".to_owned() }, "{ended:?}");
    let mut along = Along::of(&bench.place(&order));
    along.read_on();
    along.must_be_all_of(&ended);
    assert_eq!(along.text(StreamKind::Out), "here\n");
    assert_eq!(procs::of_job(&order.spec.job.to_string()), []);
}
