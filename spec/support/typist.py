# Types at a program on a terminal of its own:  typist.py STEPS COMMAND [ARGUMENT ...]
#
# Each line of the file STEPS is a step, with Python's escapes: "< text" waits until the program has shown this text
# (after what the step before has seen), "> text" types it, "signal TERM" sends this signal to what the terminal belongs
# to, as a shell would. At the end everything that it has shown goes to standard output, and its exit status is ours; 99
# when it showed nothing more for 20 seconds.
import os
import pty
import select
import signal
import sys

PATIENCE = 20

steps = [line.rstrip("\n") for line in open(sys.argv[1], encoding="utf-8")]
child, terminal = pty.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])

shown, seen = b"", 0


def read():
    global shown
    if not select.select([terminal], [], [], PATIENCE)[0]:
        os.kill(child, signal.SIGKILL)
        sys.stdout.buffer.write(shown)
        print("\n-- nothing more was shown")
        sys.exit(99)
    try:
        some = os.read(terminal, 65536)
    except OSError:  # Linux: the other end is closed
        some = b""
    shown += some
    return some != b""


for step in steps:
    what, text = step.split(" ", 1)
    text = text.encode("latin-1", "backslashreplace").decode("unicode_escape").encode("latin-1")
    if what == "<":
        while shown.find(text, seen) < 0 and read():
            pass
        seen = shown.find(text, seen) + len(text)
    elif what == ">":
        os.write(terminal, text)
    else:
        os.killpg(os.tcgetpgrp(terminal), getattr(signal, "SIG" + text.decode()))
while read():
    pass
status = os.waitpid(child, 0)[1]
sys.stdout.buffer.write(shown)
sys.exit(os.waitstatus_to_exitcode(status))
