//! The policy where everybody signs: a rule is about whoever has signed, whatever they say of themselves.

use peerbus::protocol::identity::Standing;

use super::bench::write_policy;
use crate::harness::child::Finished;
use crate::harness::fleet::{DaemonOptions, Fleet};

const POLICY: &str = "\
[[allow]]
who = [\"alice\"]
argv = \"any\"
sh = \"any\"

[[allow]]
who = [\"bob\"]
argv = [\"pwd\"]

[[allow]]
who = [\"@network\", \"@worker\", \"@inspector\", \"@guest\"]
argv = \"any\"
sh = \"any\"
";

fn fleet() -> Fleet {
    let fleet = Fleet::builder().secured().start();
    write_policy(&fleet, POLICY);
    fleet.add(DaemonOptions::worker("w1"));
    fleet
}

fn by(fleet: &Fleet, name: &str, arguments: &[&str]) -> Finished {
    fleet.command_as(name, Standing::Operator, arguments).run()
}

#[test]
fn each_operator_may_what_the_rules_say_of_them() {
    let fleet = fleet();
    let (pwd, line) =
        (["exec", "w1", "-C", "/", "--", "pwd"], ["exec", "w1", "-C", "/", "--sh", "echo $((6*7))"]);
    assert_eq!(by(&fleet, "alice", &pwd).expect_success().out(), "/\n");
    assert_eq!(by(&fleet, "alice", &line).expect_success().out(), "42\n");
    assert_eq!(by(&fleet, "bob", &pwd).expect_success().out(), "/\n");
    let refused = by(&fleet, "bob", &line).expect_code(250);
    assert!(refused.err().contains("rule 2, `sh`: it allows no shell lines"), "{refused:?}");
    // A stranger learns nothing of the rules.
    let refused = by(&fleet, "carol", &pwd).expect_code(250);
    assert_eq!(refused.err(), "d: refused: w1: the policy of w1 has no rule for carol (operator)\n");
}

#[test]
fn a_question_is_about_whoever_signed_it() {
    let fleet = fleet();
    let check = ["policy", "check", "w1", "-C", "/", "--sh", "true"];
    assert!(
        by(&fleet, "alice", &check)
            .expect_success()
            .out()
            .contains("w1 lets alice (operator) do this, by rule 1")
    );
    let said = by(&fleet, "bob", &check).expect_code(1).out();
    assert!(
        said.starts_with("refused: no rule that the policy of w1 has for bob (operator) allows this"),
        "{said}"
    );
    let check = ["policy", "check", "w1", "--as", "alice", "-C", "/", "--sh", "true"];
    by(&fleet, "bob", &check).expect_success();
    let check = ["policy", "check", "w1", "--as", "dave:inspector", "-C", "/", "--sh", "true"];
    assert!(by(&fleet, "bob", &check).expect_success().out().contains("by rule 3"));
}

#[test]
fn without_a_file_operators_may_do_everything() {
    let fleet = Fleet::builder().secured().worker("w1").start();
    by(&fleet, "bob", &["exec", "w1", "-C", "/", "--sh", "true"]).expect_success();
    let check =
        |whom: &str| by(&fleet, "bob", &["policy", "check", "w1", "--as", whom, "-C", "/", "--sh", "true"]);
    check("bob:operator").expect_success();
    for standing in ["worker", "leader", "inspector", "guest"] {
        check(&format!("x:{standing}")).expect_code(1);
    }
}
