#!/usr/bin/env python3
"""Measures what signing and checking cost: `d exec true` in a fleet with identities beside one without.

    tests/bench/identities.py [--runs 200]

Makes both fleets on free ports of 127.0.0.1, each a broker and one peer, runs them by turns, and stops them.
Needs target/release/d, and a nats-server named by PEERBUS_NATS_SERVER or found in PATH. Prints medians and
their ratio: the machine is never quiet, so only the ratio of one run means something.
"""
import argparse
import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile

from beside_ssh import D, daemon, free_port, interleaved, nats, show


def secured(stack, scratch):
    """A fleet with identities; returns the environment of its operator."""
    server = os.environ.get("PEERBUS_NATS_SERVER") or shutil.which("nats-server")
    places = {}
    for machine in ["lead", "w1"]:
        home = scratch / machine
        home.mkdir()
        places[machine] = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PEERBUS_CONFIG": str(home / "config.toml"),
            "PEERBUS_STATE_DIR": str(home / "state"),
            "PEERBUS_RUNTIME_DIR": str(home / "run"),
            "PEERBUS_NATS_SERVER": server,
        }

    def d(machine, *words):
        done = subprocess.run([D, *words], env=places[machine], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    d("lead", "init", "--id", "lead", "--operator", "ann", "--listen", f"127.0.0.1:{free_port()}")
    stack.callback(d, "lead", "daemon", "stop")
    d("w1", "join", d("lead", "invite", "w1"))
    stack.callback(d, "w1", "daemon", "stop")
    return places["lead"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ["open", "secured"]:
            (scratch / name).mkdir()
        url = nats(stack, scratch / "open")
        daemon(stack, scratch / "open", url)
        operator = secured(stack, scratch / "secured")
        words = [str(D), "exec", "w1", "-C", "/", "--", "true"]
        off = ["env", f"NATS_URL={url}", f"PEERBUS_CONFIG={os.devnull}", *words]
        on = ["env", *[f"{name}={value}" for name, value in operator.items()], *words]
        medians = interleaved({"without identities": off, "with identities": on}, options.runs)
        show(f"d exec true, median of {options.runs}", medians, "without identities")


if __name__ == "__main__":
    main()
