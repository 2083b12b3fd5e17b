import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nsdldm.workflow.workfolder import (
    check_name,
    check_writable,
    describe_lock,
    find_foreign,
    find_late,
    find_late_results,
    find_other_source,
    find_resources,
)

PROJECT = Path(__file__).resolve().parents[2]


def test_locks_are_explained(tmp_path):
    assert describe_lock(tmp_path / "none") == ""
    (tmp_path / "locks").mkdir()
    assert describe_lock(tmp_path) == ""
    (tmp_path / "locks/0.input.lock").touch()
    assert "snakemake --unlock" in describe_lock(tmp_path)


def test_folders_that_cannot_be_written_are_found(tmp_path):
    """By a user that modes apply to."""
    for name, mode in (("open", 0o777), ("closed", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    code = (
        "import os, sys; sys.path.insert(0, os.getcwd()); "
        "from nsdldm.workflow.workfolder import check_writable; "
        "os.geteuid() or os.setuid(65534); "
        "os.chdir('/'); "
        "print(*check_writable(sys.argv[1:]), sep='\\n')"
    )
    if os.geteuid():
        (tmp_path / "closed").chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    folders = [tmp_path / "open", tmp_path / "open/new", tmp_path / "closed/new/deep"]
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, folders)],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = result.stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{tmp_path}/closed: expected a folder that can be written")


def test_folders_that_can_be_written_are_no_finding(tmp_path):
    assert check_writable([tmp_path, tmp_path / "new"]) == []


def test_results_of_the_future_are_found_and_the_page_says_how_to_mend_them(tmp_path):
    now = time.time()
    times = {"past": now - 100, "c": now + 300, "a": now + 100, "b b": now + 200}
    for name, stamp in times.items():
        path = tmp_path / "results/sub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (stamp, stamp))
    (tmp_path / "benchmarks").mkdir()
    (finding,) = find_late_results([tmp_path / "results", tmp_path / "none"])
    assert finding.where == "time stamps of results"
    assert finding.found.startswith(f"{tmp_path}/results/sub/c by ")
    assert "past" not in finding.found
    page = (PROJECT / "docs/faults.md").read_text()
    command = re.search(r"^    (find results.*(?:\n     .*)*)", page, re.MULTILINE).group(1)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True)
    assert find_late_results([tmp_path / "results"]) == []
    stamps = {name: (tmp_path / "results/sub" / name).stat().st_mtime_ns for name in times}
    in_order = [stamps[name] for name in ("past", "a", "b b", "c")]
    assert in_order == sorted(in_order)
    assert stamps["past"] == pytest.approx(times["past"] * 1e9)
    assert max(stamps.values()) <= time.time_ns()


def test_strays_are_no_results_of_the_future(tmp_path):
    ahead = time.time() + 1000
    for name in (".DS_Store", "._a.tsv", "Icon\r", "sub/.AppleDouble/a.tsv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (ahead, ahead))
    assert find_late_results([tmp_path]) == []


def test_a_link_to_a_disk_that_is_not_mounted_is_found(tmp_path):
    (tmp_path / "results").symlink_to(tmp_path / "mnt/disk")
    for folder in ("results", "results/subj01"):
        (finding,) = check_writable([tmp_path / folder])
        assert finding.where == str(tmp_path / "results")
        assert finding.found == f"a link to {tmp_path / 'mnt/disk'}, where nothing is"
        assert finding.remedy.startswith("Mount the disk")
    (tmp_path / "mnt/disk").mkdir(parents=True)
    assert check_writable([tmp_path / "results"]) == []


def test_a_file_where_a_folder_should_be_is_found(tmp_path):
    (tmp_path / "logs").touch()
    (finding,) = check_writable([tmp_path / "logs"])
    assert finding.found == "a file"


def test_files_of_others_that_cannot_be_written_are_found(tmp_path, monkeypatch):
    """Rights as their bits say, since root may do all; the files are of nobody but the tests."""
    for name in ("a/closed", "a/open", "a/._closed", "b/inside"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch(0o444 if "closed" in name else 0o644)
    (tmp_path / "b").chmod(0o555)
    try:
        monkeypatch.setattr(os, "access", lambda path, mode: bool(os.stat(path).st_mode & 0o200))
        assert find_foreign([tmp_path / "a", tmp_path / "b"]) == [], "our own"
        monkeypatch.setattr(os, "geteuid", lambda: 54321)
        (finding,) = find_foreign([tmp_path / "a", tmp_path / "b", tmp_path / "none"])
    finally:
        (tmp_path / "b").chmod(0o755)
    assert finding.where == str(tmp_path / "a/closed")
    assert finding.found.endswith("who does not let you, and so for 1 more")
    assert "chmod -R g+w" in finding.remedy


@pytest.mark.parametrize(("home", "cache"), [("/proc", "{project}/.cache"), ("{home}", "")])
def test_make_keeps_caches_where_home_cannot_be_written(tmp_path, home, cache):
    """In /proc not even root can make a folder."""
    show = 'show: ; @echo "[$$XDG_CACHE_HOME][$$MPLCONFIGDIR]"'
    command = ["make", "--no-print-directory", "--eval", show, "show"]
    environment = {key: value for key, value in os.environ.items() if "XDG" not in key}
    environment |= {"HOME": home.format(home=tmp_path), "MPLCONFIGDIR": ""}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=PROJECT, env=environment, check=True
    )
    place = cache.format(project=PROJECT)
    assert result.stdout.strip() == f"[{place}][{f'{place}/matplotlib' if place else ''}]"


def test_braces_in_the_path_of_a_project_are_found():
    assert check_name('/home/me/My project [x] & y\'s "z"') == []
    (finding,) = check_name("/home/me/{old}/nsd-ldm")
    assert finding.where == "/home/me/{old}/nsd-ldm"


def test_inputs_ahead_of_the_clock_are_listed_by_how_much(tmp_path):
    ahead = {"now": -5, "jitter": 0.3, "minute": 61, "hours": 3 * 3600 + 5, "days": 3 * 86400}
    paths = [tmp_path / name for name in ahead]
    for path in paths:
        path.touch()
        os.utime(path, (time.time() + ahead[path.name],) * 2)
    (finding,) = find_late(paths)
    listed = "{0}/days by 3 days, {0}/hours by 3 h, {0}/minute by 61 s"
    assert finding.found.replace("60 s", "61 s") == listed.format(tmp_path)
    assert finding.remedy.startswith("Wait 3 days, or give them the present time with touch")
    assert find_late(paths[:2]) == []


def test_of_a_link_its_own_time_counts(tmp_path):
    """So that a release that cannot be written can be read through links of its own."""
    (tmp_path / "late").touch()
    os.utime(tmp_path / "late", (time.time() + 1e4,) * 2)
    (tmp_path / "link").symlink_to(tmp_path / "late")
    assert find_late([tmp_path / "link"]) == []


def test_many_late_inputs_are_one_short_finding(tmp_path):
    for number in range(400):
        (tmp_path / str(number)).touch()
        os.utime(tmp_path / str(number), (time.time() + 1000 + number,) * 2)
    (finding,) = find_late(tmp_path.iterdir())
    assert finding.found.count(" by ") == 6
    assert finding.found.endswith(" and 395 more by less")


def test_results_of_another_dataset_are_found(tmp_path):
    path = tmp_path / "source.tsv"
    assert find_other_source(path, "nsd") == []
    path.touch()
    assert find_other_source(path, "nsd") == []
    path.write_text("dataset\troot\tspace\nnsd\t/data/nsd\tfunc1mm\n")
    assert find_other_source(path, "nsd") == []
    (finding,) = find_other_source(path, "demo")
    assert finding.found == "those of dataset nsd (/data/nsd)"
    assert "snakemake --directory" in finding.remedy


def test_what_comes_with_the_project_is_found_from_elsewhere(tmp_path, monkeypatch):
    run, project = tmp_path / "runs/a", tmp_path / "project"
    (run / "resources/mine").mkdir(parents=True)
    monkeypatch.chdir(run)
    settings = {"a": ["resources/demo", 1, None], "b": {"c": "resources/mine"}, "d": "/resources/x"}
    assert find_resources(settings, project) == settings | {
        "a": ["../../project/resources/demo", 1, None]
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources").mkdir()
    assert find_resources("resources/demo", tmp_path) == "resources/demo"
