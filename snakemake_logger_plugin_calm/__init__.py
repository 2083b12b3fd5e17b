"""A calm display of a run: a line for each finished step, and the figures as they appear.

    PYTHONPATH=. snakemake --logger calm ...

Snakemake finds logger plugins by the name of their package. Everything else that Snakemake says is
in .snakemake/log, and what jobs say in logs/; problems are shown here too.
"""

from __future__ import annotations

import logging
import os
import sys
import time

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from nsdldm.support.logs import QUIET

PROBLEMS = {LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR}
SHOWN = ("results/figures/", "results/tables/", "results/report/")
ENDINGS = (".png", ".tsv", ".html")


class LogHandler(LogHandlerBase):
    """What Snakemake calls with every record."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Jobs inherit the environment, and say on the terminal only what is wrong."""
        os.environ[QUIET] = "1"
        self._jobs, self._finished, self._began = {}, [], time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Remember jobs, say which are finished, and pass on problems."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self._jobs[record.jobid] = record
        elif event == LogEvent.JOB_FINISHED:
            self._finished.append(record.job_id)
        elif event == LogEvent.PROGRESS:
            self._report(record.done, record.total)
        elif event in PROBLEMS or record.levelno >= logging.WARNING:
            print(self.format(record), file=sys.stderr, flush=True)

    def _report(self, done, total):
        """Print a line for each job finished since the last one."""
        seconds = (time.monotonic() - self._began) / done * (total - done)
        left = f"about {seconds / 60:.0f} min left" if seconds >= 90 else "soon done"
        for number in self._finished:
            job = self._jobs.pop(number, None)
            if job is None or job.rule_name == "all":
                continue
            what = " ".join([job.rule_name, *job.wildcards.values()])
            clock = time.strftime("%H:%M:%S")
            print(f"{clock}  {what:<58s} {done:4d} of {total}, {left}", flush=True)
            for path in map(str, job.output):
                if path.startswith(SHOWN) and path.endswith(ENDINGS):
                    print(f"{'':10s}{path}", flush=True)
        self._finished.clear()
