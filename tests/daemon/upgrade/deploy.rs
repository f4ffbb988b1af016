//! `d task run deploy`: another version by way of the bus, seen to its end by who asked for it.

use std::fs;

use crate::harness::fleet::DCommand;
use crate::harness::wait::eventually;
use crate::upgrade::bench::{Machine, SOON, named, says};

fn deploy(machine: &Machine, words: &[&str]) -> DCommand {
    machine.d([&["task", "run", "deploy"], words].concat())
}

#[test]
fn a_program_is_sent_and_served_by() {
    let machine = Machine::new();
    let pid = machine.started();
    // On a busy machine it may be over when `d` asks for the first time how it goes: hardly three times.
    let told = ["0.1.1", "0.1.2", "0.1.3"].into_iter().any(|number| is_sent_and_told(&machine, pid, number));
    assert!(told, "how it goes was never told");
}

/// Sends a version, which is served then; whether it was told meanwhile how that went.
#[track_caller]
fn is_sent_and_told(machine: &Machine, pid: i32, number: &str) -> bool {
    let new = machine.version(number);
    let sent = deploy(machine, &["--binary", new.to_str().unwrap(), "w1"]).run().expect_success();
    assert!(sent.out().starts_with(&format!("deployed peer=w1 version={} ", named(number))), "{sent:?}");
    says(&sent, &["w1: deploy 1/2: sends", "bytes"]);
    assert_eq!(machine.serves(number)["pid"], pid);
    machine.program_is(&new);
    let again = deploy(machine, &["--binary", new.to_str().unwrap(), "w1"]).run().expect_success();
    assert!(again.out().starts_with("running already peer=w1"), "{again:?}");
    let goes = format!("d: w1: deploy 2/2: {}", named(number));
    sent.err().lines().any(|line| line.starts_with(&goes))
}

#[test]
fn what_fails_there_is_told_here() {
    let machine = Machine::new();
    machine.started();
    let bad = machine.version_that_crashes("0.1.1");
    let failed = deploy(&machine, &["--binary", bad.to_str().unwrap(), "w1"]).run().expect_code(1);
    says(&failed, &["w1: deploy 2/2: stopped:", "process trees", peerbus::VERSION, "serves"]);
    machine.serves("0.1.0");
    machine.program_is(&machine.original());
    let garbage = machine.fleet.file("garbage", [7; 4096]);
    let failed = deploy(&machine, &["--binary", garbage.to_str().unwrap(), "w1"]).run().expect_code(1);
    says(&failed, &["no program of this system", "nothing was changed"]);
    says(&failed, &["w1: deploy 2/2: stopped: it exited 1"]);
    machine.program_is(&machine.original());
}

#[test]
fn jobs_that_run_there_may_end_first() {
    let machine = Machine::new();
    machine.started();
    let end = machine.fleet.path().join("end");
    let mut job = machine.job_until(&end);
    let new = machine.version("0.1.1");
    let mut sent = deploy(&machine, &["--binary", new.to_str().unwrap(), "w1"]).spawn();
    sent.stderr_line(SOON, |line| line.contains("asked for"));
    machine.d(["exec", "w1", "-C", "/", "--", "true"]).run().expect_success();
    fs::write(end, "").unwrap();
    assert_eq!(job.wait(SOON).expect_success().out(), "begun\nended\n");
    sent.wait(SOON).expect_success();
    machine.serves("0.1.1");
}

#[test]
fn what_was_built_there_is_taken_over() {
    let machine = Machine::new();
    machine.started();
    let (new, place) = (machine.version("0.1.1"), machine.fleet.directory("project"));
    let configuration = format!(
        "[tasks.build]\ndirectory = \"{}\"\nsteps = [\"mkdir -p out && cp '{}' out/d\"]\nprogram = \"out/d\"\n\
         [tasks.pull]\ndirectory = \"/\"\nsteps = [\"echo pulled\"]\n",
        place.display(),
        new.display()
    );
    let file = machine.fleet.file("tasks.toml", configuration);
    let deployed = deploy(&machine, &["w1"]).env("PEERBUS_CONFIG", &file).run().expect_success();
    assert!(deployed.out().starts_with("pulled\ndeployed peer=w1 "), "{deployed:?}");
    for step in ["w1: deploy 1/3 in /", "w1: deploy 2/3 in", "w1: deploy 3/3: "] {
        assert!(deployed.err().contains(step), "{step}: {deployed:?}");
    }
    machine.serves("0.1.1");
    // Nothing of it where a step fails.
    let broken = "[tasks.deploy]\ndirectory = \"/\"\nsteps = [\"exit 9\"]\nprogram = \"/nowhere\"\n";
    let file = machine.fleet.file("broken.toml", broken);
    let failed = deploy(&machine, &["w1"]).env("PEERBUS_CONFIG", &file).run().expect_code(9);
    says(&failed, &["stopped at step 1 of 2: it exited 9"]);
    machine.serves("0.1.1");
}

#[test]
fn mistakes_are_said_before_anything_is_sent() {
    let machine = Machine::new();
    let new = machine.version("0.1.1").display().to_string();
    let wrong = machine.d(["task", "run", "pull", "--binary", &new, "w1"]).run().expect_code(2);
    says(&wrong, &["--binary", "`deploy`"]);
    says(&deploy(&machine, &["--binary", "/nowhere", "w1"]).run().expect_code(2), &["/nowhere"]);
    deploy(&machine, &["--binary", &new, "w1"]).run().expect_code(253);
}

/// The old version serves, or the new one: that is the installed program, and the next deployment goes well and leaves
/// nothing half-done.
fn one_works(machine: &Machine) -> String {
    eventually(SOON, "nothing to be under way", || {
        // A daemon that hands over answers nobody for a moment.
        let jobs = machine.d(["jobs", "w1", "--json"]).run();
        let none = jobs.code() == Some(0) && jobs.out().is_empty();
        (none && machine.guards().is_empty()).then_some(())
    });
    let version = machine.file("state.json").unwrap()["version"].as_str().unwrap().to_owned();
    let (number, program) = match version == peerbus::VERSION {
        true => ("0.1.0", machine.original()),
        false => ("0.1.1", machine.version("0.1.1")),
    };
    machine.serves(number);
    assert!(fs::read(&machine.program).unwrap() == fs::read(program).unwrap());
    let next = machine.version("0.1.2");
    deploy(machine, &["--binary", next.to_str().unwrap(), "w1"]).run().expect_success();
    machine.serves("0.1.2");
    machine.program_is(&next);
    version
}

#[test]
fn who_asked_for_it_may_be_killed_while_the_program_is_sent() {
    let machine = Machine::new();
    machine.fleet.file("person/config.toml", "caller_grace = '1s'\n");
    machine.started();
    let new = machine.version("0.1.1");
    let mut sent = deploy(&machine, &["--binary", new.to_str().unwrap(), "w1"]).spawn();
    eventually(SOON, "a part of it to be there", || {
        machine.beside().into_iter().find(|name| name.starts_with(".d.next-"))
    });
    sent.kill();
    one_works(&machine);
}

#[test]
fn who_asked_for_it_may_be_killed_once_it_was_asked_for() {
    let machine = Machine::new();
    machine.started();
    let end = machine.fleet.path().join("end");
    let mut job = machine.job_until(&end);
    let new = machine.version("0.1.1");
    let mut sent = deploy(&machine, &["--binary", new.to_str().unwrap(), "w1"]).spawn();
    sent.stderr_line(SOON, |line| line.contains("asked for"));
    sent.kill();
    fs::write(end, "").unwrap();
    job.wait(SOON).expect_success();
    machine.phase("done");
    assert_eq!(one_works(&machine), named("0.1.1"));
}

/// The steps are one job, which goes on; what they have built nobody has asked for then.
#[test]
fn who_asked_for_it_may_be_killed_while_it_is_built() {
    let machine = Machine::new();
    machine.started();
    let (new, place, end) =
        (machine.version("0.1.1"), machine.fleet.directory("project"), machine.fleet.path().join("end"));
    let configuration = format!(
        "[tasks.deploy]\ndirectory = \"{}\"\nsteps = [\"echo begun; until [ -e '{}' ]; do sleep 0.1; done\", \
         \"cp '{}' d\"]\nprogram = \"d\"\n",
        place.display(),
        end.display(),
        new.display()
    );
    let file = machine.fleet.file("tasks.toml", configuration);
    let mut run = deploy(&machine, &["w1"]).env("PEERBUS_CONFIG", &file).spawn();
    run.stdout_line(SOON, |line| line == "begun");
    run.kill();
    fs::write(end, "").unwrap();
    eventually(SOON, "the task to come to its end", || {
        (fs::read(place.join("d")).ok()? == fs::read(&new).unwrap()).then_some(())
    });
    assert!(machine.file("upgrade.json").is_none(), "nobody has asked for it");
    assert_eq!(one_works(&machine), peerbus::VERSION);
}
