"""Processes to kill, limit and race, forked from one that has imported the package: each starts in milliseconds."""

import functools
import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import traceback

import pytest

from helpers import ROOT, TESTS


@functools.cache
def server():
    """Start the process from which children are forked."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers.preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, TESTS))))  # Python 3.11 does not hand it sys.path
        multiprocessing.forkserver.ensure_running()
    return context


def execute(code, arguments, writer):
    """Run code as a script of its own whose output goes to a pipe."""
    for stream in (1, 2):
        os.dup2(writer.fileno(), stream)
    sys.argv = ["-c", *arguments]
    try:
        exec(code, {"__name__": "__main__"})
    except Exception:
        traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()


class Child:
    """A process that runs code; its standard output and error can be read from ``stdout``."""

    def __init__(self, code, *arguments):
        reader, writer = server().Pipe(duplex=False)
        self.process = server().Process(target=execute, args=(code, list(map(str, arguments)), writer), daemon=True)
        self.process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def rest(self):
        """What it still says, once it has ended."""
        with self.stdout:
            said = self.stdout.read()
        self.process.join()
        return said
