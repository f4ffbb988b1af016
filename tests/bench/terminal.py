#!/usr/bin/env python3
"""Measures a terminal of `d exec -t` beside `ssh -tt`, key by key in turns, on this machine.

    tests/bench/terminal.py [--keys 500] [--user NAME]

Servers, daemon and NAME as in beside_ssh.py. Types one key, waits until it is echoed by the terminal
on the other side, then does the same through the other one; who is first changes with each key, and
before each there is the same pause. Both go over loopback to the same command line, run by the shell
of NAME as NAME, in a terminal of the same size whose settings are compared first; ssh has its connection
already, as d has its daemon, and does not hide the rhythm of keys. Prints the median and the 99th
percentile of each. Then how long a terminal takes to be there, to be shown again, and the memory of its
shim.
"""
import argparse
import contextlib
import fcntl
import os
import pathlib
import pty
import pwd
import select
import statistics
import struct
import sys
import tempfile
import termios
import time

sys.dont_write_bytecode = True
from beside_ssh import D, daemon, nats, sshd  # noqa: E402

PATIENCE = 20

# As fast as anybody types; what is written faster than that is gathered.
PAUSE = 0.02

# Longest line that a terminal echoes.
KEYS_MOST = 4000


class Terminal:
    """A program in a terminal of its own, with us in the place of the person."""

    def __init__(self, command, size=(24, 80)):
        self.begun = time.perf_counter()
        ours, theirs = pty.openpty()
        # Its size is there before the program is.
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.pid, self.end = os.fork(), ours
        if self.pid == 0:
            os.close(ours)
            os.login_tty(theirs)
            os.execvp(command[0], command)
        os.close(theirs)
        self.seen = self.passed = b""

    def type(self, keys):
        os.write(self.end, keys)

    def until(self, wanted):
        """Seconds until it was shown."""
        begun = time.perf_counter()
        while wanted not in self.seen:
            if not select.select([self.end], [], [], PATIENCE)[0]:
                raise SystemExit(f"{wanted} was not shown within {PATIENCE} s: {self.seen[-200:]}")
            try:
                self.seen += os.read(self.end, 65536)
            except OSError:
                raise SystemExit(f"it ended before {wanted} was shown: {self.seen[-200:]}") from None
        took = time.perf_counter() - begun
        self.passed, self.seen = self.seen.split(wanted, 1)
        return took

    def close(self):
        """Waits until it has ended by itself."""
        with contextlib.suppress(OSError):
            while os.read(self.end, 65536):
                pass
        os.close(self.end)
        os.waitpid(self.pid, 0)


def show(name, times):
    times = sorted(times)
    p99 = times[min(len(times) - 1, len(times) * 99 // 100)]
    print(f"  {name:<28} p50 {statistics.median(times) * 1000:7.2f} ms   p99 {p99 * 1000:7.2f} ms")


def settings(command):
    """What `stty` says of the terminal on the other side."""
    terminal = Terminal(command)
    terminal.until(b"settings:")
    terminal.until(b"end of settings")
    terminal.close()
    return terminal.passed.replace(b"\r", b"").decode()


def echoes(candidates, keys):
    terminals = {name: Terminal(command) for name, command in candidates.items()}
    times = {name: [] for name in terminals}
    for terminal in terminals.values():
        terminal.until(b"ready\r\n")
    for number in range(keys):
        key = b"abcdefghijklmnopqrstuvwxyz"[number % 26: number % 26 + 1]
        turns = list(terminals.items())
        for name, terminal in turns if number % 2 else reversed(turns):
            time.sleep(PAUSE)
            terminal.type(key)
            times[name].append(terminal.until(key))
    for terminal in terminals.values():
        terminal.type(b"\x03")
        terminal.close()
    return times


def shims():
    """The memory of all shims of ours, by pid, in KiB: what is their own, and with the program itself."""
    found = {}
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[1:2] == [b"shim"] and (process / "exe").readlink() == D.resolve():
                lines = (process / "status").read_text().splitlines()
                values = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith(" kB")}
                found[process.name] = (int(values["VmRSS"]), int(values["RssAnon"]))
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=500)
    parser.add_argument("--user", default=pwd.getpwuid(os.getuid()).pw_name)
    options = parser.parse_args()
    if not 0 < options.keys <= KEYS_MOST:
        parser.error(f"--keys: from 1 to {KEYS_MOST}")
    with contextlib.ExitStack() as stack:
        scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = nats(stack, scratch)
        daemon(stack, scratch, url)
        ssh = sshd(stack, scratch, options.user)
        os.environ.update(NATS_URL=url, PEERBUS_CONFIG=os.devnull, TERM="xterm-256color")
        shell = pwd.getpwnam(options.user).pw_shell

        def both(line):
            here = [str(D), "exec", "-t", "--user", options.user, "-C", "/", "w1", "--", shell, "-c", line]
            return {"ssh -tt (mux)": ssh[:-1] + ["-tt", ssh[-1], line], "d exec -t": here}

        kinds = [settings(command) for command in both("echo settings:; stty -a; echo end of settings").values()]
        if kinds[0] != kinds[1]:
            raise SystemExit(f"the two terminals differ, so nothing can be compared: {kinds[0]}{kinds[1]}")
        times = echoes(both("echo ready; exec cat"), options.keys)
        print(f"from a key to its echo, {options.keys} keys each, in turns")
        for name, each in times.items():
            show(name, each)

        starts, attaches, memory = [], [], {}
        for size in [(24, 80), (60, 200)] * 10:
            before = shims()
            terminal = Terminal([str(D), "session", "new", "--name", "bench", "w1", "--", "top", "-d", "1"], size)
            terminal.until(b"COMMAND")
            starts.append(time.perf_counter() - terminal.begun)
            terminal.type(b"\x1dd")
            terminal.close()
            again = Terminal([str(D), "session", "attach", "w1/bench"], size)
            again.until(b"\x1b[?2026l")
            attaches.append(time.perf_counter() - again.begun)
            fresh = [value for pid, value in shims().items() if pid not in before]
            memory.setdefault(size, []).extend(fresh)
            again.type(b"\x03")
            again.close()
        print("a terminal, from the start of d")
        show("until its program has drawn", starts)
        show("until it is shown again", attaches)
        for (rows, columns), values in memory.items():
            resident = statistics.median(value[0] for value in values)
            private = statistics.median(value[1] for value in values)
            print(f"  shim of {columns}x{rows}: {private / 1024:.1f} MiB of its own, {resident / 1024:.1f} MiB with the program it shares")


if __name__ == "__main__":
    main()
