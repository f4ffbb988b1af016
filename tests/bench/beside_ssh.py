#!/usr/bin/env python3
"""Measures `d exec` beside ssh with ControlMaster, interleaved in one run, on this machine.

    tests/bench/beside_ssh.py [--runs 200] [--mebibytes 256] [--user NAME]

Starts a nats-server, one daemon and an sshd of its own on free ports of 127.0.0.1, all stopped at
the end. NAME is a user with a plain shell, the present one by default; as root, the key is put into
a directory of the benchmark's own and nothing of NAME's is touched. Needs target/release/d,
sshd, and a nats-server named by PEERBUS_NATS_SERVER or found in PATH. Prints medians and ratios:
the machine is never quiet, so only the ratios of one run mean something.
"""
import argparse
import contextlib
import json
import os
import pathlib
import pwd
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
D = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "d"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, look):
    deadline = time.monotonic() + 20
    while not (found := look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within 20 s")
        time.sleep(0.01)
    return found


@contextlib.contextmanager
def running(*command, **options):
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def nats(stack, scratch):
    server = os.environ.get("PEERBUS_NATS_SERVER") or shutil.which("nats-server")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    stack.enter_context(running(server, "--port", "-1", "--ports_file_dir", str(scratch), **quiet))
    ports = wait_for("nats-server", lambda: list(scratch.glob("*.ports")))
    return json.loads(ports[0].read_text())["nats"][0]


def daemon(stack, scratch, url):
    log = scratch / "w1.log"
    environment = {**os.environ, "PEERBUS_CONFIG": os.devnull}
    command = [D, "daemon", "run", "--id", "w1", "--nats", url, "--state-dir", scratch / "w1"]
    process = stack.enter_context(running(*command, stderr=log.open("wb"), env=environment))
    wait_for("the daemon", lambda: b"ready peer=w1" in log.read_bytes())
    return process


def sshd(stack, scratch, user):
    port = free_port()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", scratch / name], check=True)
    shutil.copy(scratch / "user.pub", scratch / "authorized")
    scratch.chmod(0o755)
    config = scratch / "sshd_config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {scratch}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {scratch}/authorized\nStrictModes no\n"
    )
    os.makedirs("/run/sshd", exist_ok=True)
    quiet = {"stderr": subprocess.DEVNULL}
    stack.enter_context(running(shutil.which("sshd"), "-D", "-f", str(config), **quiet))
    ssh = ["ssh", "-F", "none", "-p", str(port), "-i", str(scratch / "user"), "-o", "StrictHostKeyChecking=no",
           "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", f"ControlPath={scratch}/mux",
           # Since 9.5 it sends keys in a rhythm of its own, to hide that of who types.
           "-o", "IgnoreUnknown=ObscureKeystrokeTiming", "-o", "ObscureKeystrokeTiming=no",
           f"{user}@127.0.0.1"]
    wait_for("ssh", lambda: subprocess.run(ssh + ["true"], stderr=subprocess.DEVNULL).returncode == 0)
    master = subprocess.Popen(ssh[:-1] + ["-M", "-N", ssh[-1]])
    stack.callback(lambda: (master.terminate(), master.wait()))
    wait_for("the ssh master", (scratch / "mux").exists)
    return ssh


def timed(command, **options):
    begun = time.perf_counter()
    subprocess.run(command, check=True, **options)
    return time.perf_counter() - begun


def interleaved(candidates, runs, **options):
    times = {name: [] for name in candidates}
    for _ in range(runs):
        for name, command in candidates.items():
            times[name].append(timed(command, **options))
    return {name: statistics.median(each) for name, each in times.items()}


def show(title, medians, against):
    print(title)
    for name, median in medians.items():
        print(f"  {name:<28} {median * 1000:9.2f} ms   {median / medians[against]:5.2f} × {against}")


def resident(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--user", default=pwd.getpwuid(os.getuid()).pw_name)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = nats(stack, scratch)
        process = daemon(stack, scratch, url)
        idle = resident(process.pid)
        ssh = sshd(stack, scratch, options.user)
        os.environ.update(NATS_URL=url, PEERBUS_CONFIG=os.devnull)
        there = [str(D), "exec", "w1", "-C", "/"]
        medians = interleaved(
            {"sh -c true": ["sh", "-c", "true"], "ssh mux true": ssh + ["true"], "d exec true": there + ["--", "true"]},
            options.runs)
        show(f"run `true`, median of {options.runs}", medians, "ssh mux true")
        size = options.mebibytes << 20
        output = ["head", "-c", str(size), "/dev/zero"]
        medians = interleaved({"ssh mux": ssh + [" ".join(output)], "d exec": there + ["--", *output]}, 5,
                              stdout=subprocess.DEVNULL)
        show(f"{options.mebibytes} MiB of output, median of 5", medians, "ssh mux")
        print(f"daemon, resident: {idle / 1024:.1f} MiB idle, {resident(process.pid) / 1024:.1f} MiB after all this")


if __name__ == "__main__":
    main()
