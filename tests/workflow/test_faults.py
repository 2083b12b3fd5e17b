"""What a user meets on a bad day: each fault is made here; the same command must cope with it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import PROJECT, run_snakemake, write_config

sys.path.insert(0, str(PROJECT / "tests/faults"))

import kill_runs

pytestmark = pytest.mark.slow

SUBJECT = "results/subj01"


@contextmanager
def mounted(*arguments):
    """Mount something for the time of a test; the last argument is where."""
    result = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if result.returncode:
        pytest.skip(f"mounting is not permitted here: {result.stderr.strip()}")
    try:
        yield Path(arguments[-1])
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)


def run(folder, *arguments, project=None, ends_well=True):
    """What the same command prints, which is never a traceback."""
    result = run_snakemake(folder, *arguments, check=False, project=project)
    text = result.stdout + result.stderr
    assert (result.returncode == 0) == ends_well, text
    assert "Traceback" not in text
    return text


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of a finished run, at another place."""
    return Path(shutil.copytree(finished, tmp_path / "copy", symlinks=True))


def same(folder, finished, *names):
    """Whether files are those of the run that nothing happened to."""
    return all((folder / name).read_bytes() == (finished / name).read_bytes() for name in names)


WAITS = """import time
from pathlib import Path

while not Path("go").exists():
    time.sleep(0.02)
for path in snakemake.output:
    Path(path).touch()
"""


def test_a_folder_is_locked_until_it_is_unlocked(pretended, tmp_path):
    """By a run that goes on, by the jobs of one that was killed, and by one of which nothing is."""
    folder = Path(shutil.copytree(pretended, tmp_path / "copy"))
    (folder / "workflow_scripts/tabulate_trials.py").write_text(WAITS)
    target, log = f"{SUBJECT}/trials.tsv", tmp_path / "first.log"

    def refuse():
        text = run(folder, target, ends_well=False)
        assert "cannot be locked" in text
        assert "run snakemake --unlock and then the same command again" in text

    first = kill_runs.start_run(folder, log, [target])
    try:
        while not any((folder / ".snakemake/scripts").glob("*.tabulate_trials.py")):
            assert first.poll() is None, log.read_text()
            time.sleep(kill_runs.LOOK)
        refuse()
        assert "rule tabulate_trials" in run(folder, "--dry-run", "--forceall", target)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        refuse()
    finally:
        kill_runs.kill_group(first)
    refuse()
    assert "give snakemake" not in run(folder, "--unlock")
    (folder / "go").touch()
    run(folder, target)
    assert "Nothing to be done" in run(folder, target)


def test_full_disk(finished, tmp_path):
    """23 MB of betas on a disk of 12 MB; then the disk grows."""
    folder, target = tmp_path / "disk", f"{SUBJECT}/betas/cortex.npy"
    folder.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)):
        shutil.copy(finished / "config.yaml", folder)
        text = run(folder, target, project=finished, ends_well=False)
        assert f"{SUBJECT}/partial/betas/cortex.npy: expected space for it on" in text
        assert f"the file system {folder}, found" in text
        assert not (folder / target).exists()
        assert not list(folder.rglob(".part-*"))
        subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
        run(folder, target, project=finished)
        assert same(folder, finished, target)


def test_read_only_folder(copied):
    """Said before the first job; root is refused too, unlike by a mode."""
    with mounted("--bind", str(copied), str(copied)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(copied)], check=True)
        text = run(copied, "--forceall", ends_well=False)
    assert "Nothing can be written:" in text
    assert f"{copied}/results: expected a folder that can be written" in text
    assert "rule check_release" not in text


def cut(path):
    """Leave half of a file."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage, name, product",
    [
        (cut, "features/z.npy", "kernels/features.h5"),
        (flip, "masks/frontal.nii.gz", "figures/fig6.png"),
        (cut, "images.tsv", "kernels/features.h5"),
    ],
)
def test_damaged_result(copied, finished, damage, name, product):
    """Is named, with what to do; doing so makes everything as it was."""
    damaged, made = (copied / SUBJECT / each for each in (name, product))
    status = damaged.stat()
    damage(damaged)
    os.utime(damaged, ns=(status.st_atime_ns, status.st_mtime_ns))
    made.unlink()
    text = run(copied, f"{SUBJECT}/{product}", ends_well=False)
    assert f"{SUBJECT}/{name}: expected" in text
    assert "Delete it and run the same command again" in text
    damaged.unlink()
    run(copied, f"{SUBJECT}/{product}")
    assert same(copied, finished, f"{SUBJECT}/{name}", f"{SUBJECT}/{product}")


def test_unforeseen_failure_is_one_line(copied, monkeypatch):
    """A traceback only where it is asked for."""
    path = copied / "nsdldm/plots/fig6.py"
    path.write_text(path.read_text().replace('logger.info("%s: acc', '1 / 0; logger.info("%s: acc'))
    text = run(copied, f"{SUBJECT}/figures/fig6.png", ends_well=False)
    log = "logs/subj01/plot_fig6.fig6"
    assert f"ZeroDivisionError: division by zero. Where it happened is in {log}.traceback" in text
    assert "1 / 0" in (copied / f"{log}.traceback").read_text()
    monkeypatch.setenv("NSDLDM_VERBOSE", "1")
    result = run_snakemake(copied, f"{SUBJECT}/figures/fig6.png", check=False)
    assert "Traceback" in result.stdout + result.stderr


def test_a_late_release_is_read_through_links(finished, tmp_path, nsd_config):
    """As docs/faults.md says: a job on it succeeds, and its results are not made again."""
    late = tmp_path / "release"
    shutil.copytree(nsd_config["nsd"]["root"], late, ignore=lambda *_: ["subj02"], symlinks=True)
    responses = late / "nsddata/ppdata/subj01/behav/responses.tsv"
    os.utime(responses, (time.time() + 10_860,) * 2)
    folder, target = tmp_path / "run", f"{SUBJECT}/trials.tsv"
    changed = {"root": str(late), "sessions": [1]}
    one = nsd_config | {"subjects": ["subj01"], "nsd": changed}
    write_config(folder, **one)
    text = run(folder, target, project=finished, ends_well=False)
    assert f"{responses} by 3 h" in text
    links = tmp_path / "links"
    subprocess.run(["cp", "-rs", late, links], check=True)
    write_config(folder, **one | {"nsd": changed | {"root": str(links)}})
    contents = ("--max-checksum-file-size", "1000000000000")
    run(folder, target, *contents, project=finished)
    assert same(folder, finished, target)
    again = run(folder, target, *contents, "--dry-run", project=finished)
    assert "Nothing to be done" in again


def test_clock_set_back(pretended, tmp_path):
    """Results of tomorrow are named; what docs/faults.md says makes them of now, in their order."""
    folder = Path(shutil.copytree(pretended, tmp_path / "copy"))
    for path in [*(folder / "results").rglob("*"), *(folder / "benchmarks").rglob("*")]:
        status = path.stat()
        os.utime(path, (status.st_atime + 86400, status.st_mtime + 86400))
    assert "time stamps of results: expected none" in run(folder, "--dry-run", ends_well=False)
    page = (PROJECT / "docs/faults.md").read_text()
    command = re.search(r"^    (find results.*\n.*)", page, re.MULTILINE).group(1)
    subprocess.run(["bash", "-c", command], cwd=folder, check=True)
    assert "Nothing to be done" in run(folder, "--dry-run")
