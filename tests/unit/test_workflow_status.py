"""What is said of a run while it runs."""

import json
import logging
import re
import threading
import time
from types import SimpleNamespace

import pytest

from nsdldm.support.errors import Finding, InputError
from nsdldm.workflow import status

RULES = ("simulate", "fit", "draw", "all")


def make_job(number, rule, subject=None, log=(), output=("x",)):
    known = {"subject": subject} if subject else {}
    return SimpleNamespace(
        number=number,
        rule=SimpleNamespace(name=rule),
        wildcards_dict=known,
        log=list(log),
        output=list(output),
    )


@pytest.fixture
def dag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fit.log").write_text("".join(f"line {n}\n" for n in range(50)) + "<all> went\n")
    jobs = [
        make_job(1, "all", output=()),
        make_job(2, "draw"),
        make_job(3, "fit", "subj02", ["fit.log"]),
        make_job(4, "fit", "subj01", ["fit.log"]),
        make_job(5, "simulate", "subj01"),
    ]
    return SimpleNamespace(
        jobs=jobs,
        jobid=lambda job: job.number,
        needrun=lambda job: job.rule.name != "simulate",
        workflow=SimpleNamespace(rules=[SimpleNamespace(name=name) for name in RULES]),
    )


@pytest.fixture
def watch(dag):
    watch = status.watch_run(dag)
    yield watch
    logging.getLogger("snakemake").removeHandler(watch)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()


def read():
    return json.loads(status.RECORD.read_text())


def tell(watch, event, **fields):
    """Hand on a record, and wait until it is written."""
    extra = {"event": event} | fields
    watch._pause = 0
    logging.getLogger("snakemake").handle(
        logging.makeLogRecord({"levelno": logging.INFO, "msg": "", **extra})
    )
    while read()["jobs"] != json.loads(json.dumps([*watch._jobs.values()])):
        time.sleep(0.01)
    with watch.lock:
        pass  # the page too


def test_a_run_begins_with_what_is_left_and_what_is_there(watch):
    assert status.count_states(read()) == {
        ("simulate", "subj01"): {"done": 1, "running": 0, "failed": 0, "left": 0},
        ("fit", "subj02"): {"done": 0, "running": 0, "failed": 0, "left": 1},
        ("fit", "subj01"): {"done": 0, "running": 0, "failed": 0, "left": 1},
        ("draw", "all"): {"done": 0, "running": 0, "failed": 0, "left": 1},
    }


def test_jobs_run_finish_and_fail(watch):
    tell(watch, "job_info", jobid=4)
    tell(watch, "job_info", jobid=3)
    table = status.show_status()
    assert "1 of 4 jobs done, 2 running, 0 failed, 1 left" in table
    assert re.search(r"running: fit subj01, \d+ s", table)
    assert 'http-equiv="refresh"' in status.PAGE.read_text()
    tell(watch, "job_finished", job_id=4)
    tell(watch, "job_error", jobid=3, log=["fit.log"])
    table = status.show_status()
    assert "2 of 4 jobs done, 0 running, 1 failed, 1 left" in table
    assert "failed: fit subj02\nfit.log:\nline 39\n" in table and "<all> went" in table
    page = status.PAGE.read_text()
    assert "&lt;all&gt; went" in page and '<td class="failed">0/1</td>' in page
    # Snakemake tries it again.
    tell(watch, "job_info", jobid=3)
    assert "0 failed" in status.show_status()


def test_a_run_that_ended_or_was_killed(watch):
    watch._run["pid"] = 2**22 + 1
    watch.write()
    assert "The run is gone" in status.show_status()
    watch.write(ended=True)
    assert ", ended." in status.show_status() and "gone" not in status.show_status()
    assert 'http-equiv="refresh"' not in status.PAGE.read_text()


def test_other_records_and_jobs_are_nothing_to_it(watch):
    before = read()
    tell(watch, "progress", done=1, total=4)
    tell(watch, "job_info", jobid=99)
    assert read()["jobs"] == before["jobs"]


def test_a_full_disk_stops_nothing(watch, monkeypatch):
    def refuse(path):
        raise InputError(Finding(str(path), "space", "none", "Free some"))

    monkeypatch.setattr(status, "replacing", refuse)
    watch._renew()
    assert "0 running" in status.show_status()


def test_no_run(tmp_path):
    assert "no run has been recorded here" in status.show_status(tmp_path)


def test_durations():
    said = [status.say_time(seconds) for seconds in (3, 89, 100, 5399, 5400, 90_000)]
    assert said == ["3 s", "89 s", "2 min", "1 h 30 min", "1 h 30 min", "25 h 00 min"]
