import os
import subprocess
import sys
import time

import pytest

from nsdldm.workfolder import check_writable, claim, mend_times

CLAIM = """
import sys
from nsdldm.workfolder import claim
print(claim(sys.argv[1], note=sys.argv[2] == "note"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path):
    """Start a process that claims a file until it is killed; returns it and what it was told."""
    started = []

    def start_claim(note="note"):
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path / "state/claims"), note],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip() == "True"

    yield start_claim
    for process in started:
        process.kill()
        process.communicate()


def test_a_claim_ends_with_its_process(start):
    """The first of a folder cannot know where the last one ran."""
    first, alone = start()
    assert not alone
    first.kill()
    first.wait()
    second, alone = start()
    assert alone
    third, alone = start()
    assert not alone
    second.kill()
    second.wait()
    assert not start()[1], "the third one is still there"
    assert third.poll() is None


def test_claims_of_another_host_are_not_known(tmp_path, start):
    """Nor the next time, as long as its locks are there."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state/claims").write_text("elsewhere")
    for note, expected in (("no", False), ("no", False), ("note", False), ("no", True)):
        process, alone = start(note)
        assert alone == expected
        process.kill()
        process.wait()


def test_a_folder_that_cannot_be_written_is_not_claimed(tmp_path):
    (tmp_path / "file").write_text("")
    assert not claim(tmp_path / "file/claims", note=True)


def test_folders_that_cannot_be_written_are_found(tmp_path):
    """By a user that modes apply to."""
    for name, mode in (("open", 0o777), ("closed", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    code = (
        "import os, sys; sys.path.insert(0, os.getcwd()); "
        "from nsdldm.workfolder import check_writable; "
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


def test_times_of_the_future_become_now_in_their_order(tmp_path):
    now = time.time()
    times = {"past": now - 100, "c": now + 300, "a": now + 100, "b": now + 200, "same": now + 200}
    for name, stamp in times.items():
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (stamp, stamp))
    assert mend_times([tmp_path, tmp_path / "none"]) == 4
    stamps = {name: (tmp_path / name).stat().st_mtime for name in times}
    assert sorted(set(stamps), key=lambda name: (stamps[name], name)) == [
        "past", "a", "b", "same", "c",
    ]  # fmt: skip
    assert stamps["b"] == stamps["same"]
    assert stamps["past"] == pytest.approx(times["past"])
    assert stamps["c"] <= time.time()
    assert mend_times([tmp_path]) == 0
