"""What a run has done, is doing and has left: for a terminal, and as a page that renews itself.

Snakemake tells its loggers what happens to each job. `Watch` is such a logger of the process that
the user started. It notes the state of every job in ``.snakemake/status.json``, from which
``make status`` prints a table, and writes ``results/report/status.html``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import time
from contextlib import suppress
from html import escape
from pathlib import Path
from threading import Timer
from typing import Any

from nsdldm.support.errors import InputError
from nsdldm.support.files import replacing

RECORD = Path(".snakemake/status.json")
PAGE = Path("results/report/status.html")
# Share of the time that writing may take, and seconds after which the page is loaded again.
SHARE, RENEWED = 0.02, 10
TAIL = 12  # lines of a failed job's log
DONE, RUNNING, FAILED, LEFT, KEPT = "done", "running", "failed", "left", "kept"
STATES = (DONE, RUNNING, FAILED, LEFT)
EVERYONE = "all"


class Watch(logging.Handler):
    """Notes what Snakemake says about its jobs.

    Parameters
    ----------
    dag : snakemake.dag.DAG
        All jobs of the run, also those whose files are up to date.
    targets : collection of str
        Names of rules that only gather targets and are not counted.
    """

    def __init__(self, dag: Any, targets: set[str] = frozenset()):
        super().__init__(logging.INFO)
        self._written, self._pause, self._waiting = 0.0, 0.0, None
        order = {rule.name: number for number, rule in enumerate(dag.workflow.rules)}
        self._jobs = {
            dag.jobid(job): {
                "rule": job.rule.name,
                "subject": (job.wildcards_dict or {}).get("subject", EVERYONE),
                "state": LEFT if dag.needrun(job) else KEPT,
                "log": [str(file) for file in job.log],
            }
            for job in sorted(dag.jobs, key=lambda job: order[job.rule.name])
            if job.rule.name not in targets
        }
        self._run = {"began": time.time(), "pid": os.getpid(), "host": socket.gethostname()}
        self.write()

    def emit(self, record: logging.LogRecord) -> None:
        """Note a job that has begun, is done or has failed."""
        event = str(getattr(record, "event", ""))
        if event == "job_info":
            self._note(record.jobid, RUNNING, "began")
        elif event == "job_finished":
            self._note(record.job_id, DONE, "ended")
        elif event == "job_error":
            self._note(record.jobid, FAILED, "ended", log=[str(file) for file in record.log])
        else:
            return
        if self._waiting is None:
            self._waiting = Timer(max(0, self._written + self._pause - time.time()), self._renew)
            self._waiting.daemon = True
            self._waiting.start()

    def _renew(self):
        """Write what has happened since the last time."""
        self._waiting = None
        # A full disk stops jobs, which say so; not this.
        with suppress(InputError):
            self.write()

    def _note(self, number, state, moment, **others):
        if number in self._jobs:
            self._jobs[number] |= {"state": state, moment: time.time(), **others}

    def write(self, ended: bool = False) -> None:
        """Write the record and the page.

        Parameters
        ----------
        ended : bool
            Whether the run is over.
        """
        with self.lock:
            if ended and self._waiting is not None:
                self._waiting.cancel()
            self._written = time.time()
            record = self._run | {"written": self._written, "ended": ended}
            record["jobs"] = list(self._jobs.values())
            with replacing(RECORD) as part:
                part.write_text(json.dumps(record), encoding="utf-8")
            with replacing(PAGE) as part:
                part.write_text(write_page(record), encoding="utf-8")
            self._pause = (time.time() - self._written) / SHARE


def watch_run(dag: Any) -> Watch:
    """Watch the run of this process.

    Parameters
    ----------
    dag : snakemake.dag.DAG

    Returns
    -------
    Watch
        To be told when the run has ended.
    """
    targets = {job.rule.name for job in dag.jobs if not job.output}
    watch = Watch(dag, targets)
    logging.getLogger("snakemake").addHandler(watch)
    return watch


def count_states(record: dict) -> dict[tuple[str, str], dict[str, int]]:
    """Count jobs by rule and subject.

    Parameters
    ----------
    record : dict
        As `Watch` writes it.

    Returns
    -------
    dict of (rule, subject) to dict of str to int
        How many jobs are done (in this run or before), running, failed and left; in the order of
        the record.
    """
    counts = {}
    for job in record["jobs"]:
        own = counts.setdefault((job["rule"], job["subject"]), dict.fromkeys(STATES, 0))
        own[DONE if job["state"] == KEPT else job["state"]] += 1
    return counts


def _sum_up(record):
    """Number of jobs in each state."""
    counts = count_states(record).values()
    return {state: sum(own[state] for own in counts) for state in STATES}


def say_time(seconds: float) -> str:
    """Write a duration, such as 2 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _read_tail(job):
    """The last lines of a job's logs."""
    lines = []
    for file in map(Path, job["log"]):
        if file.is_file():
            with file.open("rb") as stream:
                stream.seek(max(0, file.stat().st_size - 20_000))
                text = stream.read().decode("utf-8", "replace")
            lines += [f"{file}:", *text.splitlines()[-TAIL:]]
    return lines or [f"no log ({', '.join(job['log']) or 'none is named'})"]


def _describe_run(record, now):
    """One sentence on the whole run."""
    sums = _sum_up(record)
    until = record["written"] if record["ended"] else now
    words = f"{sums[DONE]} of {sum(sums.values())} jobs done, {sums[RUNNING]} running, "
    words += f"{sums[FAILED]} failed, {sums[LEFT]} left; {say_time(until - record['began'])} so far"
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(record["began"]))
    return f"Run of {began} on {record['host']}: {words}" + ", ended." * record["ended"]


def _select(record, state):
    return [job for job in record["jobs"] if job["state"] == state]


def write_table(record: dict, now: float, width: int = 34) -> str:
    """Write a run's state for a terminal.

    Parameters
    ----------
    record : dict
        As `Watch` writes it.
    now : float
        Seconds since the epoch.
    width : int
        Characters for the name of a rule.

    Returns
    -------
    str
        The whole run; done and all jobs of each rule by subject, with * where some are running and
        ! where some have failed; running jobs with their time so far; failed ones with the end of
        their logs.
    """
    counts = count_states(record)
    subjects = sorted({subject for _, subject in counts}, key=lambda name: (name == EVERYONE, name))
    lines = [_describe_run(record, now), ""]
    lines.append(" " * width + "".join(f"{subject:>12s}" for subject in subjects))
    for rule in dict.fromkeys(rule for rule, _ in counts):
        cells = (_write_cell(counts.get((rule, subject))) for subject in subjects)
        lines.append(f"{rule[:width]:<{width}s}" + "".join(f"{cell:>12s}" for cell in cells))
    for job in _select(record, RUNNING):
        lines.append(f"running: {job['rule']} {job['subject']}, {say_time(now - job['began'])}")
    for job in _select(record, FAILED):
        lines += ["", f"failed: {job['rule']} {job['subject']}", *_read_tail(job)]
    return "\n".join(lines)


def _write_cell(own):
    if own is None:
        return ""
    mark = "!" * bool(own[FAILED]) + "*" * bool(own[RUNNING])
    return f"{mark}{own[DONE]}/{sum(own.values())}"


HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Status of the run</title>
<meta name="viewport" content="width=device-width, initial-scale=1">{renew}
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem;
  padding: 0 1rem; color: #222; background: #fff; }}
table {{ border-collapse: collapse; }} .wide {{ overflow-x: auto; }}
th, td {{ padding: .15rem .7rem; text-align: right; font-variant-numeric: tabular-nums; }}
th:first-child, td:first-child {{ text-align: left; }}
tr + tr {{ border-top: 1px solid #e5e5e5; }}
.done {{ color: #1b7837; }} .running {{ background: #fff3c4; }} .failed {{ background: #f8d0d0; }}
.left {{ color: #888; }}
pre {{ background: #f4f4f4; padding: .7rem; overflow-x: auto; }}
progress {{ width: 100%; height: 1rem; }}
</style></head><body>
"""


def write_page(record: dict) -> str:
    """Write a run's state as a page that loads itself again until the run has ended.

    Parameters
    ----------
    record : dict
        As `Watch` writes it.

    Returns
    -------
    str
        HTML that needs nothing else.
    """
    now, sums = record["written"], _sum_up(record)
    renew = "" if record["ended"] else f'\n<meta http-equiv="refresh" content="{RENEWED}">'
    parts = [HEAD.format(renew=renew), "<h1>Status of the run</h1>"]
    parts.append(f"<p>{escape(_describe_run(record, now))}</p>")
    parts.append(f'<progress max="{sum(sums.values()) or 1}" value="{sums[DONE]}"></progress>')
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    parts.append(f"<p>Written {moment}. A run that was killed stays as it was then.</p>")
    for job in _select(record, FAILED):
        parts.append(f"<h2>Failed: {escape(job['rule'])} {escape(job['subject'])}</h2>")
        parts.append(f"<pre>{escape(chr(10).join(_read_tail(job)))}</pre>")
    if running := _select(record, RUNNING):
        parts.append("<h2>Running</h2><ul>")
        for job in running:
            so_far = say_time(now - job["began"])
            parts.append(f"<li>{escape(job['rule'])} {escape(job['subject'])}, {so_far}</li>")
        parts.append("</ul>")
    parts += ["<h2>Jobs by rule and subject</h2>", *_write_rows(record), "</body></html>\n"]
    return "\n".join(parts)


def _write_rows(record):
    """A table of done and all jobs."""
    counts = count_states(record)
    subjects = sorted({subject for _, subject in counts}, key=lambda name: (name == EVERYONE, name))
    yield '<div class="wide"><table><tr><th>rule</th>'
    yield "".join(f"<th>{escape(subject)}</th>" for subject in subjects) + "</tr>"
    for rule in dict.fromkeys(rule for rule, _ in counts):
        cells = [_mark_cell(counts.get((rule, subject))) for subject in subjects]
        yield f"<tr><td>{escape(rule)}</td>{''.join(cells)}</tr>"
    yield "</table></div>"


def _mark_cell(own):
    if own is None:
        return "<td></td>"
    state = next((s for s in (FAILED, RUNNING, LEFT) if own[s]), DONE)
    return f'<td class="{state}">{own[DONE]}/{sum(own.values())}</td>'


def show_status(folder: Path | str = ".") -> str:
    """Say how the run in a folder stands.

    Parameters
    ----------
    folder : str or Path
        Where Snakemake runs.

    Returns
    -------
    str
        As `write_table`; with a note if the process that ran is gone.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        return f"{path}: no run has been recorded here."
    record = json.loads(path.read_text(encoding="utf-8"))
    table = write_table(record, time.time() if _is_alive(record) else record["written"])
    if not record["ended"] and not _is_alive(record):
        table += "\n\nThe run is gone: it was killed, or runs on another machine."
    return table


def _is_alive(record):
    """Whether the run's process is there; unknown on another machine."""
    here = record["host"] == socket.gethostname()
    return here and not record["ended"] and Path(f"/proc/{record['pid']}").exists()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Say how a run stands.")
    parser.add_argument("folder", nargs="?", default=".", help="where Snakemake runs")
    folder = parser.parse_args().folder
    if not Path(folder).is_dir():
        parser.error(f"{folder}: expected the folder of a run, found none")
    print(show_status(folder))
