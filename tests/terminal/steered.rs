//! Sessions by those who do not sit at them: given another name, and left by everybody.

use serde_json::Value;

use crate::harness::fleet::Fleet;
use crate::harness::secured::OPERATOR;
use crate::harness::wait::eventually;
use crate::person::{Person, SOON};
use crate::sessions::new;

/// What a list says of the only job there is.
fn listed(fleet: &Fleet, words: &[&str]) -> Value {
    let lines = fleet.d(words).expect_success().out();
    let mut rows = lines.lines().map(|line| serde_json::from_str(line).unwrap());
    let row = rows.next().unwrap_or_else(|| panic!("{words:?}: nothing"));
    assert!(rows.next().is_none(), "{lines}");
    row
}

fn start(fleet: &Fleet, more: &[&str]) -> String {
    let words = ["session", "new", "-d"].iter().chain(more).chain(&["w1", "--", "sleep", "1000"]);
    fleet.d(words.collect::<Vec<_>>()).expect_success().out().trim().to_owned()
}

#[test]
fn another_name_is_there_at_once_everywhere_and_stays() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    let id = start(&fleet, &[]);
    let done = fleet.d(["session", "rename", &format!("w1/{id}"), "work"]).expect_success();
    assert_eq!((done.out(), done.err()), (format!("{} on w1 is work now\n", &id[28..]), String::new()));
    fleet.d(["session", "rename", "work", "build"]).expect_success();
    for words in [&["session", "list", "--json"][..], &["jobs", "w1", "--json"]] {
        assert_eq!(listed(&fleet, words)["name"], "build", "{words:?}");
    }
    assert!(fleet.d(["session", "rename", "work", "x"]).expect_code(254).err().contains("no job"));
    let state = fleet.daemon("w1").state_directory().to_owned();
    let about = state.join(format!("jobs/{id}/shim.json"));
    let kept = || {
        let about: Value = serde_json::from_slice(&std::fs::read(&about).ok()?).ok()?;
        (about["name"] == "build").then_some(())
    };
    eventually(SOON, "the shim to know", kept);

    // The same again is done already.
    fleet.d(["session", "rename", "w1/build", "build"]).expect_success();
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    assert_eq!(listed(&fleet, &["jobs", "w1", "--json"])["name"], "build", "to the next daemon");
    fleet.d(["session", "rename", "w1/build", "last"]).expect_success();
    fleet.d(["session", "stop", "w1/last"]).expect_success();
    assert_eq!(listed(&fleet, &["jobs", "w1", "-a", "--json"])["name"], "last", "when it has ended");
    let ended = fleet.d(["session", "rename", "w1/last", "x"]).expect_code(1);
    assert!(ended.err().contains("goes on no more"), "{}", ended.err());
}

#[test]
fn a_name_that_is_taken_or_none_is_refused() {
    let fleet = Fleet::of_workers(["w1", "w2"]);
    let (one, other) = (start(&fleet, &["--name", "one"]), start(&fleet, &["--name", "other"]));
    let ran = fleet.path().join("ran");
    let twice = ["session", "new", "-d", "--name", "other", "w1", "--", "touch", ran.to_str().unwrap()];
    let said = fleet.d(twice).expect_code(250).err();
    assert!(said.contains("the name other is taken") && said.contains(&other), "{said}");
    assert!(!ran.exists(), "it ran all the same");
    let refused = fleet.d(["session", "rename", "w1/one", "other"]).expect_code(250);
    let said = refused.err();
    assert!(said.contains("the name other is taken") && said.contains(&other), "{said}");
    let refused = fleet.d(["session", "rename", "w1/one", "a/b"]).expect_code(2);
    assert!(refused.err().contains("a name has letters"), "{}", refused.err());
    let unknown = fleet.d(["session", "rename", "w1/none", "x"]).expect_code(254);
    assert!(unknown.err().contains("not found"), "{}", unknown.err());
    // What has ended has no claim to its name, nor has a job of another peer.
    fleet.d(["session", "stop", "w1/other"]).expect_success();
    fleet.d(["session", "rename", "w1/one", "other"]).expect_success();
    assert_eq!(listed(&fleet, &["session", "list", "w1", "--json"])["id"], Value::from(one));
    start(&fleet, &["--name", "one"]);
    let piped = fleet.d(["exec", "-d", "-C", "/", "w2", "--", "sleep", "1000"]).expect_success().out();
    for verb in [&["rename", "x"][..], &["detach"]] {
        let job = format!("w2/{}", piped.trim());
        let words = ["session", verb[0], &job].into_iter().chain(verb[1..].iter().copied());
        let refused = fleet.d(words.collect::<Vec<_>>()).expect_code(1);
        assert!(refused.err().contains("has no terminal"), "{}", refused.err());
    }
}

/// Whoever leaves so ends as after its own keys, and the shell goes on.
#[track_caller]
fn was_detached(person: Person, by: &str) {
    let mut person = person;
    person.until("shows it again\r\n");
    assert_eq!(person.d.wait(SOON).code(), Some(0));
    assert!(person.terminal_is_usual(), "the terminal is raw still");
    let shown = String::from_utf8_lossy(&person.bytes()).into_owned();
    assert!(shown.contains(&format!("d: detached by {by} from work on w1, which goes on")), "{shown}");
}

#[test]
fn everybody_is_made_to_leave_and_the_shell_goes_on() {
    let fleet = Fleet::builder().secured().worker("w1").start();
    let first = new(&fleet, "work");
    let sits = |more: &[&str]| {
        let words = ["session", "attach"].iter().chain(more).chain(&["w1/work"]).collect::<Vec<_>>();
        let mut person = Person::sits_down(&fleet, &words.iter().map(|word| **word).collect::<Vec<_>>());
        person.until("ready> ");
        person
    };
    let (second, watcher) = (sits(&[]), sits(&["--watch"]));
    let done = fleet.d(["session", "detach", "w1/work"]).expect_success();
    assert_eq!(done.out(), "3 have left work on w1, which goes on\n");
    for person in [first, second, watcher] {
        was_detached(person, OPERATOR);
    }
    let nobody = fleet.d(["session", "detach", "w1/work"]).expect_success();
    assert_eq!(nobody.out(), "nobody was at work on w1\n");
    let third = sits(&[]);
    let mut fourth = sits(&["-d"]);
    was_detached(third, OPERATOR);
    fourth.types("echo still he''re; exit 5\r");
    fourth.until("still here\r\n");
    assert_eq!(fourth.finishes().0.code(), Some(5));
}

/// Nobody stays because a word did not come through.
#[test]
fn whoever_is_out_of_reach_is_told_when_it_is_back() {
    let fleet = Fleet::builder().client_relay().worker("w1").start();
    let mut person = new(&fleet, "work");
    let url = fleet.server().url();
    fleet.client_relay().cut();
    person.types("not typed any more\r");
    let done = fleet.command(["session", "detach", "w1/work"]).nats(&url).run().expect_success();
    assert_eq!(done.out(), "one has left work on w1, which goes on\n");
    fleet.client_relay().heal();
    person.until("d: detached by ");
    was_detached_by_a_claim(person);
    let log = fleet.command(["logs", "w1/work"]).nats(&url).run().expect_success().out();
    assert!(!log.contains("not typed"), "{log}");
}

/// Nor because the daemon that knew of them is no more, and they have not noticed yet. Who comes after that stays.
#[test]
fn whoever_has_not_found_the_next_daemon_is_told_when_it_does() {
    let fleet = Fleet::of_workers(["w1"]);
    let person = new(&fleet, "work");
    let daemon = fleet.daemon("w1");
    daemon.kill9();
    daemon.start();
    daemon.wait_until_ready();
    fleet.d(["session", "detach", "w1/work"]).expect_success();
    let mut later = Person::sits_down(&fleet, &["session", "attach", "w1/work"]);
    later.until("ready> ");
    was_detached_by_a_claim(person);
    later.types("echo still he''re\r");
    later.until("still here\r\n");
    // That one stays, though it has to come back, too.
    daemon.freeze();
    fleet.server().kill();
    fleet.server().restart();
    daemon.thaw();
    later.types("exit 5\r");
    assert_eq!(later.finishes().0.code(), Some(5));
}

#[track_caller]
fn was_detached_by_a_claim(person: Person) {
    let (finished, shown) = person.finishes();
    assert_eq!(finished.code(), Some(0), "{shown}");
    assert!(shown.contains("@") && shown.contains("from work on w1, which goes on"), "{shown}");
}
