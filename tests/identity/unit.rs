//! Joining where systemd is and has no unit for the daemon: it is written, enabled and started.
//!
//! This needs no systemd: `d` runs in a mount namespace of its own, with an `/etc` and a `/run` of the test's,
//! and finds a `systemctl` that notes what it is asked, and starts what the unit says.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::machines::Machines;

const SYSTEMCTL: &str = r#"#!/bin/sh
tools=$(dirname "$0")
unit=/etc/systemd/system/peerbus.service
if [ "$1" = show ]; then
  case $3 in
    LoadState) if [ -e $unit ]; then echo loaded; else echo not-found; fi ;;
    *) cat "$tools/$3" 2>/dev/null ;;
  esac
  exit 0
fi
echo "systemctl $*" >> "$tools/calls"
case $1 in
  restart)
    sh -c "exec $(sed -n 's/^ExecStart=//p' $unit)" 2>"$tools/said" >/dev/null &
    echo $! > "$tools/MainPID"
    # As a unit that tells when it is ready.
    timeout 20 sh -c "until grep -q '^ready ' '$tools/said'; do sleep 0.05; done" || exit 1
    echo active > "$tools/ActiveState" ;;
esac
"#;

#[test]
fn the_unit_is_written_where_there_is_none() {
    let machines = Machines::with_a_fleet();
    let token = machines.invite(&["vps"]);
    let (home, etc) = (machines.home("vps"), machines.home("etc"));
    for file in ["passwd", "group", "hosts", "nsswitch.conf", "ld.so.cache"] {
        // Not every system has all of them.
        let _ = fs::copy(format!("/etc/{file}"), etc.join(file));
    }
    fs::create_dir_all(etc.join("systemd/system")).unwrap();
    let tools = machines.home("tools");
    fs::write(tools.join("systemctl"), SYSTEMCTL).unwrap();
    fs::set_permissions(tools.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let line = "mount --bind \"$1\" /etc && mount -t tmpfs none /run && mkdir -p /run/systemd/system && \
                exec \"$0\" join \"$2\"";
    let joined = machines
        .d("vps", &[])
        .env_remove("PEERBUS_CONFIG")
        .instead("unshare")
        .env("PATH", path)
        .env("PEERBUS_STATE_DIR", home.join("state"))
        .with(|unshare| {
            unshare.args(["--mount", "sh", "-c", line, env!("CARGO_BIN_EXE_d")]).arg(&etc).arg(&token);
        })
        .run()
        .expect_success();
    assert_eq!(joined.out(), "joined as vps; the leader hears it\n");
    let unit = fs::read_to_string(etc.join("systemd/system/peerbus.service")).unwrap();
    assert!(unit.contains(&format!("ExecStart=\"{}\" daemon run\n", env!("CARGO_BIN_EXE_d"))), "{unit}");
    let calls = fs::read_to_string(tools.join("calls")).unwrap();
    let wanted =
        ["systemctl daemon-reload", "systemctl enable peerbus.service", "systemctl restart peerbus.service"];
    assert_eq!(calls.lines().collect::<Vec<_>>(), wanted);
    let config = fs::read_to_string(etc.join("peerbus/config.toml")).unwrap();
    assert!(config.contains("daemon_creds = \"/etc/peerbus/identity/vps.creds\""), "{config}");
    let mode = |path: &str| fs::metadata(etc.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("peerbus/identity"), mode("peerbus/identity/vps.creds")), (0o700, 0o600));
    assert_eq!(
        (mode("peerbus"), mode("peerbus/config.toml")),
        (0o755, 0o644),
        "where the bus is, everyone may read"
    );
    assert_eq!(machines.echo("lead", "vps").expect_success().out(), "ran\n");
}
