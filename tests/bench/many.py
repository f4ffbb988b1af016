#!/usr/bin/env python3
"""Measures one peer with as many durable jobs as it takes, and a burst beyond that, on this machine.

    tests/bench/many.py [--jobs 1000] [--beyond 500]

Starts a nats-server and one daemon, all stopped at the end with what they run. Asks for JOBS + BEYOND jobs at
once; BEYOND of them have to be refused, all others run, wait for a word, and end with output and exit code of
their own, every byte of which is compared. In the middle the daemon is killed and started again. Meanwhile a
foreground command is run again and again: how long it takes tells whether anything else is starved. Needs
target/release/d and a nats-server named by PEERBUS_NATS_SERVER or found in PATH.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

sys.dont_write_bytecode = True
from beside_ssh import D, nats, wait_for  # noqa: E402

PATIENCE = 300


class Bus:
    """As much of a NATS client as asking many things at once takes."""

    def __init__(self, url):
        address = urllib.parse.urlparse(url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=PATIENCE)
        self.stream = self.socket.makefile("rb")
        self.inbox = f"_INBOX.{uuid.uuid4().hex}"
        options = {"verbose": False, "headers": True, "no_responders": True}
        self.socket.sendall(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox}.* 1\r\n".encode())

    def ask(self, subject, questions):
        """Asks all of them at once; their answers by number, and when each came."""
        begun = time.perf_counter()
        lines = []
        for number, question in enumerate(questions):
            payload = json.dumps(question).encode()
            lines.append(f"PUB {subject} {self.inbox}.{number} {len(payload)}\r\n".encode() + payload + b"\r\n")
        # The answers are read meanwhile, so that neither side waits for the other.
        threading.Thread(target=self.socket.sendall, args=(b"".join(lines),)).start()
        answers = {}
        while len(answers) < len(questions):
            number, answer = self.answer()
            answers[number] = (answer, time.perf_counter() - begun)
        return answers

    def answer(self):
        while True:
            words = self.stream.readline().split()
            if words[:1] == [b"PING"]:
                self.socket.sendall(b"PONG\r\n")
            elif words[:1] in ([b"MSG"], [b"HMSG"]):
                payload = self.stream.read(int(words[-1]) + 2)[:-2]
                head = int(words[-2]) if words[0] == b"HMSG" else 0
                if b" 503" in payload[:head].split(b"\r\n")[0]:
                    raise SystemExit("nobody hears the request")
                return int(words[1].rsplit(b".", 1)[1]), json.loads(payload[head:])
            elif not words:
                raise SystemExit("the server is gone")


class Daemon:
    def __init__(self, scratch, url, most):
        self.scratch, self.log = scratch, scratch / "w1.log"
        config = scratch / "config.toml"
        config.write_text(f"[jobs]\nmost = {most}\n")
        self.environment = {**os.environ, "PEERBUS_CONFIG": str(config)}
        self.command = [D, "daemon", "run", "--id", "w1", "--nats", url, "--state-dir", scratch / "w1"]
        self.process = None

    def start(self):
        """Seconds until it was ready."""
        begun = time.perf_counter()
        self.log.write_bytes(b"")
        self.process = subprocess.Popen(self.command, stderr=self.log.open("ab"), env=self.environment)
        wait_for("the daemon", lambda: b"ready peer=w1" in self.log.read_bytes())
        return time.perf_counter() - begun

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Beside(threading.Thread):
    """Somebody who runs a foreground command again and again."""

    def __init__(self):
        super().__init__()
        self.times, self.failed, self.over = [], [], threading.Event()

    def run(self):
        while not self.over.is_set():
            begun = time.perf_counter()
            ran = subprocess.run([D, "exec", "w1", "-C", "/", "--", "true"], capture_output=True)
            self.times.append(time.perf_counter() - begun)
            if ran.returncode != 0:
                self.failed.append(ran.stderr.decode())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def show(self, when):
        failed = f", {len(self.failed)} FAILED: {self.failed[0]}" if self.failed else ""
        times = sorted(self.times)
        print(f"  a foreground command {when}: median {statistics.median(times) * 1000:.0f} ms, "
              f"longest {times[-1] * 1000:.0f} ms of {len(times)}{failed}")


def memory(pid):
    """Resident, proportional and private memory, in KiB."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    values = {key: int(value) for key, value in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    return values["Rss"], values["Pss"], values["Private_Clean"] + values["Private_Dirty"]


def shims(state):
    found = []
    for about in state.glob("jobs/*/shim.json"):
        with contextlib.suppress(OSError, ValueError):
            found.append(json.loads(about.read_text())["shim"]["pid"])
    return found


def show_memory(daemon, state):
    rss, pss, private = memory(daemon.process.pid)
    print(f"  daemon: {rss / 1024:.1f} MiB resident, {private / 1024:.1f} MiB private")
    each = [memory(pid) for pid in shims(state)]
    rss, pss, private = (statistics.median(kind) for kind in zip(*each))
    print(f"  shim, median of {len(each)}: {rss / 1024:.2f} MiB resident, {pss / 1024:.2f} MiB proportional, "
          f"{private / 1024:.2f} MiB private")


def listed(many, *arguments):
    begun = time.perf_counter()
    ran = subprocess.run([D, "jobs", "w1", "--json", *arguments], capture_output=True, check=True)
    took = time.perf_counter() - begun
    jobs = [json.loads(line) for line in ran.stdout.splitlines()]
    mine = {job["id"]: job for job in jobs if job["id"] in many}
    return took, mine


def expect(true, sentence):
    if not true:
        raise SystemExit(f"WRONG: {sentence}")


def logged(place):
    """Both outputs of a job together, as they are on the disk."""
    return b"".join(part.read_bytes() for part in sorted(place.glob("log/*")) if part.suffix != ".runs")


def wrong(state, job, number):
    place = state / "jobs" / job
    ended = json.loads((place / "ended.json").read_text())
    text = f"begin {number}\n".encode() + b"".join(b"%d\n" % line for line in range(1, number + 2))
    if ended["ending"] != {"exited": {"code": number % 200}}:
        return f"{job} ended as {ended['ending']} and not with {number % 200}"
    if logged(place) != text or ended["out"]["bytes"] != len(text):
        return f"{job} wrote {len(text)} bytes, {ended['out']['bytes']} are counted and {len(logged(place))} kept"
    return None


def run(scratch, url, most, beyond, stack):
    state, gate = scratch / "w1", scratch / "gate"
    os.mkfifo(gate)
    daemon = Daemon(scratch, url, most)
    print(f"the daemon is ready after {daemon.start() * 1000:.0f} ms")
    stack.callback(lambda: end(daemon, state))
    bus = Bus(url)
    requests = []
    for number in range(most + beyond):
        line = f"echo begin {number}; read -r word < {gate}; seq {number + 1}; exit {number % 200}"
        requests.append({"type": "peerbus.exec.v1", "id": new_id(), "shell_cmd": line, "directory": "/", "durable": True})
    with Beside() as beside:
        answers = bus.ask("exec.w1", requests)
    started = {requests[number]["id"]: number for number, (answer, _) in answers.items() if "started" in answer["type"]}
    refused = [answer for answer, _ in answers.values() if "started" not in answer["type"]]
    times = sorted(when for answer, when in answers.values() if "started" in answer["type"])
    print(f"{most} of {most + beyond} jobs asked for at once run after {times[-1]:.2f} s, the first after {times[0]:.2f} s")
    beside.show("meanwhile")
    expect(len(started) == most, f"{len(started)} were started and not {most}: {refused[:1]}")
    for answer in refused:
        why = answer["ending"]["refused"]
        expect(why["why"] == "limit" and f"{most} durable jobs at once" in why["message"], f"refused: {why}")
    show_memory(daemon, state)
    for when in ["", "again "]:
        took, jobs = listed(started)
        expect(len(jobs) == most and all(job["state"] == "running" for job in jobs.values()), f"{len(jobs)} listed")
        print(f"  d jobs {when}lists all after {took * 1000:.0f} ms")
    daemon.kill()
    print(f"killed in the middle, the next daemon is ready after {daemon.start() * 1000:.0f} ms")
    took, jobs = listed(started)
    expect(len(jobs) == most and all(job["state"] == "running" for job in jobs.values()), f"{len(jobs)} adopted")
    print(f"  d jobs lists all after {took * 1000:.0f} ms")
    show_memory(daemon, state)
    begun = time.perf_counter()
    with Beside() as beside:
        # All of them wait in opening it.
        os.close(os.open(gate, os.O_WRONLY))
        deadline = time.monotonic() + PATIENCE
        while len(list((state / "journal" / "open").iterdir())) > 1:
            expect(time.monotonic() < deadline, "jobs do not end")
            time.sleep(0.05)
    print(f"told to go on, all have ended and are written down after {time.perf_counter() - begun:.2f} s")
    beside.show("meanwhile")
    problems = [problem for job, number in started.items() if (problem := wrong(state, job, number))]
    expect(not problems, f"{len(problems)} jobs: {problems[:3]}")
    took, jobs = listed(started, "-a")
    expect(len(jobs) == most, f"{len(jobs)} of {most} ended jobs are listed")
    print(f"  all bytes and exit codes are right; d jobs -a lists them after {took * 1000:.0f} ms")
    rss, _, private = memory(daemon.process.pid)
    print(f"  daemon: {rss / 1024:.1f} MiB resident, {private / 1024:.1f} MiB private")


def new_id():
    """A version 7 id: its time comes first."""
    at = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=at << 80 | 7 << 76 | uuid.uuid4().int & 0xFFF << 64 | 2 << 62 | uuid.uuid4().int & (1 << 62) - 1))


def end(daemon, state):
    """The daemon and every shim that is left, with what it keeps."""
    pids = {about.parent.name: json.loads(about.read_text())["shim"] for about in state.glob("jobs/*/shim.json")}
    left = [job for job in pids if not (state / "jobs" / job / "ended.json").exists()]
    for job in left:
        with contextlib.suppress(OSError):
            started = pathlib.Path(f"/proc/{pids[job]['pid']}/stat").read_text().rsplit(") ", 1)[1].split()[19]
            if int(started) == pids[job]["start_time"]:
                os.kill(pids[job]["pid"], signal.SIGKILL)
    # The next daemon stops what shims that are dead have left.
    if left:
        daemon.kill()
        daemon.start()
    daemon.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--beyond", type=int, default=500)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = nats(stack, scratch)
        os.environ.update(NATS_URL=url, PEERBUS_CONFIG=os.devnull)
        run(scratch, url, options.jobs, options.beyond, stack)


if __name__ == "__main__":
    main()
