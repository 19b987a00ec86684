"""The reference case: makes a dump and prints the session of a user.  scripts/demo runs it, with Python installed.

The dump is of a kernel that an sk_buff, overrun past its end, has crashed.  Every line behind (gdb) is a command as a
user types it; the frame numbers are those of GDB's own backtrace, just above.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# "{NAME}" stands for the number of the frame of that function.
SESSION = (
    "source {init}",
    "target kdump {vmcore}",
    "kbt",
    "backtrace 16",
    "frame {skb_release_data}",
    "kstruct sk_buff.len,data_len,truesize,users,head,data,tail,end skb",
    "x/16xg skb->head",
    "shinfo skb",
    "skbcheck skb",
    "frame {udp_sendmsg}",
    "kstruct sock.__sk_common.skc_family,sk_protocol,sk_wmem_alloc,sk_write_queue sk",
    "skbwalk sk",
    "ktriage",
)

# Runs inside gdb: says each command, then executes it.
PLAYER = """
import gdb, re

def level(function):
    frame = gdb.newest_frame()
    while frame is not None and frame.name() != function:
        frame = frame.older()
    if frame is None:
        raise gdb.GdbError("demo: no frame of " + function)
    return str(frame.level())

for setting in ("pagination off", "width 0", "style enabled off"):
    gdb.execute("set " + setting)
for line in {session!r}:
    command = re.sub(r"\\{{(\\w+)\\}}", lambda found: level(found[1]), line)
    gdb.write("\\n(gdb) " + command + "\\n")
    gdb.flush()
    try:
        gdb.execute(command)
    except gdb.error as error:
        raise gdb.GdbError(str(error))
"""


def main() -> int:
    """Plays the session on one dump and returns the exit status of GDB."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--kernel", default="6.1", choices=("6.1", "6.12", "6.12rt"), help="the crashed kernel (6.1)")
    args = parser.parse_args()
    made = subprocess.run(["scripts/lab/make", "--kernel", args.kernel, "reference"], check=False, cwd=ROOT)
    if made.returncode:
        return made.returncode
    lab = Path(os.environ.get("GDB_KDUMP_LAB") or ROOT / ".cache" / "lab").resolve()
    first = [
        line.format(init=ROOT / "gdb_kdump" / "init.py", vmcore=lab / f"{args.kernel}-reference.vmcore")
        for line in SESSION[:2]
    ]
    player = PLAYER.format(session=[*first, *SESSION[2:]])
    print("$ gdb", flush=True)
    read, write = os.pipe()
    os.write(write, player.encode())
    os.close(write)
    play = f"python exec(open('/dev/fd/{read}').read())"
    return subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-ex", play], check=False, stdin=subprocess.DEVNULL, pass_fds=(read,)
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
