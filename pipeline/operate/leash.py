"""A command that ends with whoever started it, however that ends (kill -9 too).

The starter holds a pipe to stdin (`command` says how to call this). When that closes, the process
group is told to end, and killed if it does not within the seconds of grace.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence


def command(arguments: Sequence[str], grace: float) -> list[str]:
    """Wrap a command line, to be started in a session of its own with a pipe as stdin."""
    # -P: modules that lie beside this file are not to be found under names of the library's.
    return [sys.executable, "-P", __file__, str(grace), *arguments]


def _end(grace: float) -> None:
    os.read(0, 1)  # nothing ever comes but the end
    os.killpg(0, signal.SIGTERM)
    time.sleep(grace)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run the command given after the grace, and exit as it does."""
    process = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this ends when the command does
    threading.Thread(target=_end, args=[float(sys.argv[1])], daemon=True).start()
    code = process.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
