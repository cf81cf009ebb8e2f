"""Progress of a run: a bar for people, JSON lines for programs."""

from __future__ import annotations

import json
import time
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sparse_mrnn.display import progress_bar
from sparse_mrnn.errors import RecordingError
from sparse_mrnn.files.atomic import reason
from sparse_mrnn.runtime import resident_memory

EVERY = 0.2
"""Seconds between two updates of the bar."""
LOG_EVERY = 5.0
"""Seconds between two progress lines of the log."""


class Progress:
    """Progress of a run of ``steps`` steps of ``dt`` ms.

    A ``bar`` is drawn on standard error, if that is a terminal. JSON lines are appended to the file ``log``:
    objects with time, event, step, ms, steps_per_s, rss_bytes.
    """

    def __init__(self, steps: int, dt: float, *, bar: bool, log: Path | None) -> None:
        self.steps, self.dt, self.path = steps, dt, log
        self.first, self.begun = 0, time.monotonic()
        self.next_bar = self.next_log = 0.0
        self.log: IO[str] | None = None
        self.bar: Any = progress_bar(steps * dt, "ms") if bar else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None and self.bar.live.is_started:
            self.bar.stop()
        if self.log is not None:
            with suppress(OSError):
                self.log.close()

    def open_log(self) -> None:
        """Open the log; before the run replaces a recording, so that a log that cannot be leaves it whole.

        Raises
        ------
        RecordingError
            If it cannot be written.
        """
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.log = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
            except OSError as error:
                raise RecordingError(f"cannot write the log {self.path}: {reason(error)}.") from error

    def begin(self, done: int) -> None:
        """Draw the bar, and count from the steps that are ``done``."""
        self.first, self.begun = done, time.monotonic()
        if self.bar is not None:
            self.bar.start()

    def update(self, done: int) -> None:
        """Report ``done`` steps, if enough time has passed."""
        now = time.monotonic()
        if self.bar is not None and (now >= self.next_bar or done == self.steps):
            self.next_bar = now + EVERY
            rate = f"{self.rate(done):,.0f} steps/s, {resident_memory() / 2**20:,.0f} MiB"
            self.bar.update(self.bar.task_ids[0], completed=done * self.dt, text=rate)
        if self.log is not None and now >= self.next_log:
            self.next_log = now + LOG_EVERY
            if done > self.first:
                self.event("progress", done)

    def rate(self, done: int) -> float:
        """Steps per second since the run began or was resumed."""
        return (done - self.first) / max(time.monotonic() - self.begun, 1e-9)

    def event(self, name: str, done: int, **more: Any) -> None:
        """Log an event."""
        if self.log is not None:
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "event": name,
                "step": done,
                "ms": done * self.dt,
                "steps_per_s": round(self.rate(done), 3),
                "rss_bytes": resident_memory(),
            }
            try:
                self.log.write(json.dumps({**line, **more}) + "\n")
                self.log.flush()
            except OSError as error:  # a long run does not end for want of its log
                log, self.log = self.log, None
                with suppress(OSError):
                    log.close()
                text = f"the log {log.name} ends here: {reason(error)}. The run goes on."
                warnings.warn(text, stacklevel=2)
