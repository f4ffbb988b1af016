#!/usr/bin/env python3
"""Types into an interactive shell on a terminal and looks at what comes: tab.py SHELL SETUP LINE EXPECTED…

SETUP is a line that makes completion work; then LINE is typed and completed with TAB. Every EXPECTED text has to appear
after that. One that begins with '!' must not: after the TAB a mark is typed, whose echo says that the shell is done
with completing. One that begins with '=' is how the words of the line have to end, each in angle brackets, as the shell
itself takes them apart: printf is put before the line, and it is run. On failure the whole conversation is told.
"""

import os
import pty
import re
import select
import sys
import time

LIMIT_S = 20  # for anything to appear, on a machine that is busy
PROMPT = "ready-now> "
MARK = "@@"
COMMANDS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
# A prompt that is not on the line that sets it.
PROMPTS = {
    "bash": "bind 'set show-all-if-ambiguous on'; bind 'set bell-style none'; PS1='ready-''now> '",
    "zsh": "PS1='ready-''now> '; unsetopt beep; unset zle_bracketed_paste",
    "fish": "function fish_prompt; echo -n ready-''now'> '; end; set -g fish_autosuggestion_enabled 0",
}


class Terminal:
    def __init__(self, shell):
        self.seen = ""
        self.mark = 0
        pid, self.fd = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="160", LINES="60", LC_ALL="C.UTF-8")
            os.execvp(COMMANDS[shell][0], COMMANDS[shell])

    def type(self, text):
        self.mark = len(self.seen)
        os.write(self.fd, text.encode())

    def text(self, since=None):
        """What came since something was last typed, without the terminal's control sequences."""
        plain = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][0-9A-Za-z]|\x1b[=>]|\x1b\][^\x07]*\x07", "", self.seen[self.mark if since is None else since :])
        return plain.replace("\r", "")

    def wait(self, what):
        end = time.monotonic() + LIMIT_S
        while not what(self.text()):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                return False
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                return False
        return True


def main():
    shell, setup, line, *expected = sys.argv[1:]
    terminal = Terminal(shell)

    def require(what, sentence):
        if not terminal.wait(what):
            sys.exit(f"{shell}: {sentence}\n{terminal.seen!r}\n{terminal.text()}")

    terminal.type(PROMPTS[shell] + "\n")
    require(lambda text: PROMPT in text, "no prompt")
    terminal.type(setup + "\n")
    require(lambda text: PROMPT in text, f"no prompt after {setup!r}")
    terminal.type(line)
    require(lambda text: line.split()[-1] in text, "the line does not appear")
    terminal.type("\t")
    kinds = {kind: [text[1:] for text in expected if text[0] == kind] for kind in "!="}
    for text in expected:
        if text[0] not in kinds:
            require(lambda seen, text=text: text in seen, f"{text!r} does not appear")
    after = terminal.mark
    if kinds["="]:
        # Ctrl-A goes to the beginning of the line.
        terminal.type("\x01printf '<%s>' \n")
        for text in kinds["="]:
            pattern = re.escape(text) + "[^<]"
            require(lambda seen, pattern=pattern: re.search(pattern, seen), f"the words do not end in {text!r}")
    else:
        terminal.type(MARK)
        require(lambda seen: MARK in seen, "the shell does not go on")
    shown = terminal.text(after)
    for text in kinds["!"]:
        if text in shown:
            sys.exit(f"{shell}: {text!r} appears\n{shown}")


main()
