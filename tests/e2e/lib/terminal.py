"""Runs a command on a terminal of its own, types what stdin says, prints what the screen got.

Each line of stdin is a JSON list: what to wait for (a text), then what to type; with a third member,
only once the command has computed for a quarter of a second more. Exits with the command's status; 99 when what was waited for did not come."""
import json
import os
import pty
import select
import sys
import termios
import time

steps = [json.loads(line) for line in sys.stdin]
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
screen, seen, end = b"", 0, time.monotonic() + 30
alive = True


def read():
    global screen, alive
    if select.select([fd], [], [], 0.1)[0]:
        try:
            data = os.read(fd, 65536)
        except OSError:  # the terminal's other end is closed
            data = b""
        alive = bool(data)
        screen += data


def computed():
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# A line editor shows its prompt and takes the terminal over a moment later; a key pressed in between
# would not mean what it means to the editor, and a ^D would be lost.
def taken_over():
    return not termios.tcgetattr(fd)[3] & termios.ICANON


for want, keys, *busy in steps:
    want = want.encode()
    while want not in screen[seen:]:
        if time.monotonic() > end or not alive:
            sys.stdout.buffer.write(screen)
            print(f"\nwaited in vain for {want!r}")
            os.kill(pid, 9)
            sys.exit(99)
        read()
    seen = screen.index(want, seen) + len(want)
    before = computed()
    while busy and computed() < before + 0.25 and time.monotonic() < end:
        read()
    soon = time.monotonic() + 1
    while not busy and not taken_over() and time.monotonic() < soon:
        time.sleep(0.001)
    os.write(fd, keys.encode())
while alive and time.monotonic() < end:
    read()
sys.stdout.buffer.write(screen)
if alive:
    print("\nwaited in vain for its end")
    os.kill(pid, 9)
    sys.exit(99)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
