//! `d policy check`, `d policy show`, and the plain question on the bus.

use serde_json::{Value, json};

use super::bench::{PATIENCE, policy_file, ruled};
use crate::harness::child::Finished;
use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;

const POLICY: &str = "\
# Operators may all.
[[allow]]
who = [\"@operator\"]
argv = \"any\"
sh = \"any\"
user = \"any\"

# Bob pulls.
[[allow]]
who = [\"bob\"]
argv = [\"git\", \"pull\"]
directory = [\"PLACE/app\"] # and below

[[allow]]
who = [\"bob\", \"@network\"]
sh = [\"echo ran > PLACE/ran\"]
";

fn check(fleet: &Fleet, arguments: &[&str]) -> Finished {
    fleet.d([&["policy", "check", "w1"], arguments].concat())
}

fn json_of(finished: &Finished) -> Value {
    serde_json::from_str(&finished.out()).unwrap()
}

#[test]
fn a_check_names_the_rule_that_allows() {
    let fleet = ruled(POLICY);
    fleet.directory("app");
    let app = fleet.path().join("app").display().to_string();
    let path = policy_file(&fleet).display().to_string();
    let finished = check(&fleet, &["--as", "bob:worker", "-C", &app, "--", "git", "pull"]).expect_success();
    assert_eq!(
        finished.out(),
        format!(
            "allowed: w1 lets bob (worker) do this, by rule 2 ({path} line 9)\n    [[allow]]\n    who = [\"bob\"]\n    \
             argv = [\"git\", \"pull\"]\n    directory = [\"{}/app\"] # and below\n",
            fleet.path().display()
        )
    );
    assert_eq!(finished.err(), "");
    let alice =
        check(&fleet, &["--as", "alice", "-C", "/", "--user", "ann", "-i", "--env", "A=b", "--sh", "x"]);
    assert!(alice.expect_success().out().contains("lets alice (operator) do this, by rule 1 "));
    let answer = json_of(&check(&fleet, &["--json", "--as", "alice", "-C", "/", "--", "x"]).expect_success());
    assert_eq!(answer["decision"], json!({ "allowed": { "rule": 1 } }));
    assert_eq!((&answer["whom"], &answer["rules"][0]["line"]), (&json!("alice (operator)"), &json!(2)));
}

#[test]
fn a_check_says_what_each_rule_has_against_it() {
    let fleet = ruled(POLICY);
    let arguments = ["--as", "bob:worker", "-C", "/", "--", "git", "pull"];
    let said = check(&fleet, &arguments).expect_code(1).out();
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(lines[0], "refused: no rule that the policy of w1 has for bob (worker) allows this");
    assert!(
        lines[1].starts_with("rule 2 (")
            && lines[1].ends_with("`directory`: \"/\" does not lead into a directory that it allows"),
        "{said}"
    );
    assert!(
        lines[2].starts_with("rule 3 (") && lines[2].ends_with("`argv`: it allows shell lines alone"),
        "{said}"
    );
    assert_eq!(lines.len(), 3, "{said}");
    let answer = json_of(&check(&fleet, &[&["--json"], &arguments[..]].concat()).expect_code(1));
    let objections = answer["decision"]["refused"]["objections"].as_array().unwrap();
    let keys: Vec<_> = objections.iter().map(|it| (it["rule"].as_u64(), it["key"].as_str())).collect();
    assert_eq!(keys, [(Some(2), Some("directory")), (Some(3), Some("argv"))]);
    let said = check(&fleet, &["--as", "carol:inspector", "-C", "/", "--", "true"]).expect_code(1).out();
    assert_eq!(said, "refused: the policy of w1 has no rule for carol (inspector)\n");
    let said = check(&fleet, &["--as", "alice", "--", "true"]).expect_code(1).out();
    assert!(said.starts_with("refused: no directory is named"), "{said}");
}

/// What is checked is what would happen, and it does not happen.
#[test]
fn a_check_agrees_with_what_is_run_and_runs_nothing() {
    let fleet = ruled(POLICY);
    let line = format!("echo ran > {}/ran", fleet.path().display());
    let ran = fleet.path().join("ran");
    let as_it_is = check(&fleet, &["-C", "/", "--sh", &line]).expect_success();
    assert!(as_it_is.out().contains("lets anyone do this, by rule 3"), "{as_it_is:?}");
    assert!(!ran.exists());
    check(&fleet, &["-C", "/", "--sh", "true"]).expect_code(1);
    fleet.d(["exec", "w1", "-C", "/", "--sh", "true"]).expect_code(250);
    fleet.d(["exec", "w1", "-C", "/", "--sh", &line]).expect_success();
    assert!(ran.exists());
}

#[test]
fn the_rules_are_shown_as_they_stand_there() {
    let fleet = ruled(POLICY);
    let said = fleet.d(["policy", "show", "w1"]).expect_success().out();
    let path = policy_file(&fleet).display().to_string();
    assert!(
        said.starts_with(&format!(
            "# w1: {path}\n\n# rule 1 ({path} line 2)\n[[allow]]\nwho = [\"@operator\"]\n"
        )),
        "{said}"
    );
    assert!(said.contains(&format!("\n\n# rule 3 ({path} line 14)\n[[allow]]\n")), "{said}");
    let answer = json_of(&fleet.d(["policy", "show", "w1", "--json"]).expect_success());
    assert_eq!((answer["rules"].as_array().unwrap().len(), &answer["decision"]), (3, &Value::Null));

    let open = Fleet::of_workers(["w1"]);
    let said = open.d(["policy", "show", "w1"]).expect_success().out();
    assert!(said.starts_with("# w1: there is no policy file; this holds instead\n"), "{said}");
    assert!(said.contains("who = [\"@operator\", \"@network\"]"), "{said}");
    assert!(
        check(&open, &["--as", "bob:guest", "-C", "/", "--", "true"])
            .expect_code(1)
            .out()
            .contains("no rule for bob (guest)")
    );
    let said = check(&open, &["-C", "/", "--", "true"]).expect_success().out();
    assert!(
        said.starts_with("allowed: w1 lets anyone do this, by what holds without a policy file\n"),
        "{said}"
    );
}

#[test]
fn long_policies_fit_into_an_answer() {
    let rule = format!("[[allow]]\nwho = [\"@network\"]\nargv = [\"true\", \"{}\"]\n", "x".repeat(900));
    let fleet = ruled(&rule.repeat(1_000));
    let said = fleet.d(["policy", "show", "w1"]).expect_success().out();
    assert!(
        said.len() < 400_000 && said.ends_with(" more rules do not fit into an answer\n"),
        "{}",
        said.len()
    );
    let said = check(&fleet, &["-C", "/", "--", "false"]).expect_code(1).out();
    assert_eq!(said.lines().filter(|line| line.contains("`argv`: ")).count(), 100, "{}", said.len());
}

#[test]
fn a_plain_question_is_answered_and_a_malformed_one_explained() {
    let fleet = ruled(POLICY);
    let mut raw = Raw::connect(&fleet.server().url());
    assert_eq!(raw.request("exec.w1.policy", "", PATIENCE).json()["rules"].as_array().unwrap().len(), 3);
    let question = json!({ "as": { "name": "bob", "standing": "guest" }, "request": { "directory": "/", "argv": ["x"] } });
    let answer = raw.request("exec.w1.policy", question.to_string(), PATIENCE).json();
    assert_eq!(answer["decision"]["refused"]["why"], "policy");
    for (wrong, named) in [
        ("hello", "JSON"),
        ("[]", "array where an object is wanted"),
        ("{\"request\":{\"directory\":\"/\"}}", "`shell_cmd` and `argv`"),
        ("{\"as\":{\"name\":\"\\u0007\",\"standing\":\"guest\"}}", "`as.name`"),
    ] {
        let answer = raw.request("exec.w1.policy", wrong, PATIENCE);
        assert_eq!(answer.header("Nats-Service-Error"), Some("bad_request"), "{answer:?}");
        assert!(answer.text().contains(named), "{answer:?}");
    }
    // No inbox, no answer; and the daemon lives.
    raw.publish_reply("exec.w1.policy", "exec.w1", "");
    assert_eq!(raw.request("exec.w1.policy", "{}", PATIENCE).json()["peer_id"], "w1");
}

#[test]
fn a_peer_that_is_not_there_and_a_mistyped_identity_are_said() {
    let fleet = ruled("");
    let finished = fleet.d(["policy", "show", "w9"]).expect_code(253);
    assert!(finished.err().starts_with("d: offline: "), "{finished:?}");
    for wrong in ["Bob", "bob:boss", ":worker", ""] {
        check(&fleet, &["--as", wrong, "-C", "/", "--", "true"]).expect_code(2);
    }
    check(&fleet, &["-C", "tmp", "--", "true"]).expect_code(2);
    check(&fleet, &["-C", "/tmp"]).expect_code(2);
}

/// A policy that lets nobody have an echo may be as it should.
#[test]
fn a_doctor_that_may_run_nothing_says_so() {
    let fleet = ruled("");
    let finished = fleet.d(["doctor", "w1"]);
    let said = finished.out();
    let echo = said.lines().find(|line| line.contains("echo")).unwrap_or_else(|| panic!("{finished:?}"));
    assert!(echo.contains("SKIP") && echo.contains("the policy of w1 has no rule for anyone"), "{echo}");
    assert!(said.lines().any(|line| line.contains("PASS") && line.contains("round trip")), "{said}");
}
