//! In a fleet with identities lines say who asked, as far as it is proved, and operators alone read them.

use peerbus::protocol::identity::Standing;
use serde_json::json;

use crate::audit::bench::{events, expect_sound, lines};
use crate::harness::fleet::{DaemonOptions, Fleet};
use crate::harness::secured::OPERATOR;

#[test]
fn lines_say_who_signed_and_operators_read_them() {
    // Whoever is refused here is refused by the daemon itself.
    let fleet = Fleet::builder().secured().open_broker().worker("w1").start();
    fleet.d(["exec", "w1", "-C", "/", "--", "true"]).expect_success();
    let said = lines(&fleet, &[]);
    assert_eq!(events(&said), ["file", "started", "begun", "ended"]);
    for line in &said[2..] {
        assert_eq!((&line["principal"], &line["standing"]), (&json!(OPERATOR), &json!("operator")), "{line}");
    }
    let table = fleet.d(["audit", "w1"]).expect_success().out();
    assert!(table.contains(&format!("{OPERATOR} (operator)")), "{table}");
    fleet.d(["audit", "verify", "w1"]).expect_success();

    let other = fleet.secured().member("ines", Standing::Inspector);
    for arguments in [vec!["audit", "w1"], vec!["audit", "verify", "w1"]] {
        let refused = fleet.command(&arguments).env("PEERBUS_CREDS", &other).run().expect_code(1);
        assert!(refused.err().contains("only operators may read the audit log"), "{refused:?}");
        assert!(refused.out().is_empty(), "{refused:?}");
    }
    // A refusal is of whoever asked, too.
    fleet.d(["exec", "w1", "--", "true"]).expect_code(2);
    let last = lines(&fleet, &["-n", "1"]).remove(0);
    assert_eq!((&last["event"], &last["principal"]), (&json!("refused"), &json!(OPERATOR)), "{last}");
    assert_eq!(last["ending"]["refused"]["why"], "no_directory", "{last}");
    expect_sound(&fleet);

    // The end of a job whose daemon was killed is its starter's.
    let ran = fleet.path().join("ran");
    let line = format!("touch {}; sleep 1000; true", ran.display());
    let mut d = fleet.spawn_d(["exec", "w1", "-C", "/", "--sh", line.as_str()]);
    crate::harness::wait::eventually(crate::audit::bench::SOON, "the command to run", || {
        ran.exists().then_some(())
    });
    fleet.daemon("w1").kill9();
    d.kill();
    fleet.daemon("w1").start();
    fleet.daemon("w1").wait_until_ready();
    let ended = lines(&fleet, &["-n", "1"]).remove(0);
    assert_eq!((&ended["event"], &ended["principal"]), (&json!("ended"), &json!(OPERATOR)), "{ended}");
    assert!(ended["ending"]["unknown"].is_object(), "{ended}");
}

/// The smallest log there is, of which each principal has a quarter.
#[test]
fn nobody_pushes_out_what_others_did() {
    let worker = DaemonOptions::worker("w1").configuration("audit_size = \"512KiB\"");
    let fleet = Fleet::builder().secured().daemon(worker).start();
    fleet.d(["exec", "w1", "-C", "/", "--", "true"]).expect_success();
    let long = format!(": {}", "x".repeat(4_090));
    let bob = || fleet.command_as("bob", Standing::Operator, ["exec", "w1", "-C", "/", "--sh", &long]).run();
    let ran = (0..100).take_while(|_| bob().code() == Some(0)).count();
    assert!((10..40).contains(&ran), "{ran}");
    let refused = bob().expect_code(250);
    assert!(
        refused.err().contains("bob (operator) has filled its share of the audit log of w1"),
        "{refused:?}"
    );
    // Others have their own, and all that anybody did is there.
    fleet.d(["exec", "w1", "-C", "/", "--", "true"]).expect_success();
    let said = lines(&fleet, &[]);
    let begun = |principal: &str| {
        said.iter().filter(|line| line["event"] == "begun" && line["principal"] == principal).count()
    };
    assert_eq!((begun(OPERATOR), begun("bob")), (2, ran));
    assert!(said.iter().all(|line| line["event"] != "refused"), "they are counted alone");
    expect_sound(&fleet);
}
