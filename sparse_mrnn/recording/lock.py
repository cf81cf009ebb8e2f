"""Lock of a recording: one writer at a time."""

from __future__ import annotations

import os
import socket
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from filelock import lock_descriptor

from sparse_mrnn.errors import RecordingError
from sparse_mrnn.files.atomic import reason


class WriterLock:
    """A lock held while a run writes to a recording, beside it in ``<name>.lock``.

    The operating system releases it when the process ends, however it ends, so a file that a killed run has
    left behind stops nobody. A warning says if the file system has no locks.

    Raises
    ------
    RecordingError
        On entering, if another run holds it, in this process or another; the message says which.
    """

    def __init__(self, recording: Path) -> None:
        self.recording, self.path = recording, recording.with_name(recording.name + ".lock")
        self._handle: int | None = None

    def __enter__(self) -> WriterLock:
        while self._handle is None:
            handle = self._opened()
            try:
                locked = lock_descriptor(handle, blocking=False)
            except OSError as error:
                warnings.warn(
                    f"{self.path.parent} has no file locks ({reason(error)}): see to it that no other run "
                    f"writes to {self.recording}.",
                    stacklevel=3,
                )
                self._handle = handle
                return self
            if not locked:
                holder = "another run"
                with suppress(OSError):  # Windows refuses to read what is locked
                    holder = os.read(handle, 200).decode(errors="replace") or holder
                os.close(handle)
                raise RecordingError(
                    f"{holder} is writing to {self.recording}; wait for it, stop it, or choose another path."
                )
            if self._is_current(handle):
                self._handle = handle
            else:  # its holder removed the file as we opened it
                os.close(handle)
        with suppress(OSError):  # a full disk: the lock holds all the same
            os.truncate(self._handle, 0)
            now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            os.write(self._handle, f"process {os.getpid()} on {socket.gethostname()} (since {now})".encode())
        return self

    def _opened(self) -> int:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileExistsError:
            what = f"{self.path.parent} is not a folder"
        except OSError as error:
            what = reason(error)
        raise RecordingError(f"cannot write the recording {self.recording}: {what}.")

    def _is_current(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(handle))
        except FileNotFoundError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None
