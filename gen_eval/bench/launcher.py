"""A command as a process of its own, and the kernel's account of it: wall time, CPU time and peak memory.

On Linux the account of a process begins with the memory of the one that forked it. So the command is started by
a small helper, this module as ``python -m``, which imports next to nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Thread

from gen_eval.errors import RunFailed, UsageError

# Exported, it may name an older core than there is, at half the speed in numpy and SciPy.
_DROPPED = "OPENBLAS_CORETYPE"
_LAST = 20  # lines of a failed command's errors that are shown


@dataclass(frozen=True)
class Account:
    """What one process took.

    Args:
        wall_s: seconds from its start to its end.
        user_s: CPU seconds of its own code and of the children that it waited for.
        system_s: CPU seconds of the kernel for it.
        peak_mib: peak resident memory of its largest process, in MiB: workers count, but are not added.
        output: its standard output.
    """

    wall_s: float
    user_s: float
    system_s: float
    peak_mib: float
    output: str


def launch(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Account:
    """Run a command to its end.

    Args:
        argv: the command and its arguments.
        environment: variables to set besides those of this process; ``OPENBLAS_CORETYPE`` is dropped.

    Raises:
        RunFailed: if the command cannot be started or ends in an error.
        UsageError: if this system keeps no such accounts.
    """
    if not hasattr(os, "wait4"):
        raise UsageError(
            f"{sys.platform} keeps no account of a process that is over: compare on Linux or macOS"
        )
    inherited = {key: value for key, value in os.environ.items() if key != _DROPPED}
    # Nothing in the folder that the user happens to be in shall be imported in place of a library.
    variables = {**inherited, "PYTHONSAFEPATH": "1", **(environment or {})}
    # Of this pipe nothing is read but its end, which comes when this process lets go of it or dies, however it dies.
    theirs, ours = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, *argv],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others in order
        )
        os.close(theirs)
        out, errors = process.communicate()
    finally:
        os.close(ours)
    if process.returncode:
        last = "\n".join(errors.strip().splitlines()[-_LAST:])
        raise RunFailed(f"{' '.join(argv)}\nended with {process.returncode}:\n{last}")
    return Account(**json.loads(out))


def _run(argv: Sequence[str]) -> int:
    """Run a command, and write its account to standard output as JSON; its errors pass through."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output)
        except OSError as error:
            sys.stderr.write(f"it cannot be started: {error}\n")
            return 127
        Thread(target=_end_with_parent, args=(process,), daemon=True).start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        peak = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        account = Account(wall, usage.ru_utime, usage.ru_stime, peak, output.read())
    if process.returncode == 0:
        sys.stdout.write(json.dumps(asdict(account)))
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end_with_parent(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of standard input, and end a command that is still running."""
    os.read(0, 1)  # without the lock of sys.stdin, which would be held when this process ends
    process.terminate()


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
