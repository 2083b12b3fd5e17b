"""Kill runs of the whole workflow at random moments and compare what the same command makes of it.

    python tests/faults/kill_runs.py --folder /tmp/nsdldm-kills
    python tests/faults/kill_runs.py --folder /tmp/nsdldm-kills --kills 3 results/figures/fig6.png

makes one undisturbed run of the tiny configuration of the tests. Then it starts a second one and
kills all its processes (SIGKILL) as soon as a job of a rule not hit yet has worked for a random
share of its usual time, unlocks the folder and gives the same command again, until every rule has
been hit. Two more kills fall before the first job. After each kill everything that bears a final
name, and that Snakemake does not know as unfinished, must be what the undisturbed run has; in the
end all of results/ must be, except the page that tells how the run stands. With targets only
these are made, and with `--kills` only so many of their rules are hit, chosen at random.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests/workflow")]

from conftest import COPIED, TINY_DEMO, write_config  # noqa: E402

from nsdldm.workflow.status import PAGE  # noqa: E402

STARTING = "(before the first job)"
# Seconds between two looks at what Snakemake prints.
LOOK = 0.02


@dataclass
class Kill:
    """One kill and what was found after it."""

    rule: str
    seconds: float
    usual: float
    running: list
    under_way: int
    finished: int
    wrong: list
    continued: bool = False

    @property
    def recovered(self):
        return self.continued and not self.wrong


@dataclass
class Watcher:
    """What a run has printed so far: which jobs run since when, and how long others took."""

    path: Path
    read: int = 0
    rule: str = ""
    running: dict = field(default_factory=dict)
    durations: list = field(default_factory=list)

    def look(self):
        """Take in new lines; return the rules and numbers of the jobs they start."""
        with self.path.open() as file:
            file.seek(self.read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self.read += len(whole.encode())
        started = []
        for line in whole.splitlines():
            if match := re.match(r"(?:local)?rule (\w+):", line):
                self.rule = match.group(1)
            elif (match := re.match(r" +jobid: (\d+)", line)) and self.rule not in ("", "all"):
                self.running[match.group(1)] = self.rule, time.monotonic()
                started.append((self.rule, match.group(1)))
                self.rule = ""
            elif match := re.match(r"Finished jobid: (\d+)", line):
                rule, start = self.running.pop(match.group(1), ("", 0))
                if rule:
                    self.durations.append((rule, time.monotonic() - start))
        return started


def start_run(folder, log, arguments):
    """Start the command, with its processes in a group of their own."""
    command = [sys.executable, "-m", "snakemake", "-s", str(folder / "Snakefile")]
    command += ["--directory", str(folder), "--cores", "2", *arguments]
    command += ["--max-threads", "1", "--resources", "gpu=2"]
    with log.open("w") as file:
        return subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def finish_run(folder, log, arguments):
    """Run the command to its end."""
    if start_run(folder, log, arguments).wait():
        sys.exit(f"the command failed:\n{log.read_text()[-3000:]}")


def read_usual(folder):
    """Seconds that the shortest job of each rule took in a finished run, as recorded there."""
    usual = {}
    for path in (folder / ".snakemake/metadata").rglob("*"):
        if path.is_file():
            record = json.loads(path.read_text())
            seconds = record["endtime"] - record["starttime"]
            usual[record["rule"]] = min(seconds, usual.get(record["rule"], seconds))
    # Nothing is recorded of temporary files.
    for path in (folder / "benchmarks").rglob("*.tsv"):
        rule, values = path.name.split(".")[0], path.read_text().split("\n")[1]
        seconds = float(values.split("\t")[0])
        usual[rule] = min(seconds, usual.get(rule, seconds))
    return usual


def list_results(folder):
    """All files below results/ but the account of the run, by their path from the folder."""
    paths = (folder / "results").rglob("*")
    files = {str(path.relative_to(folder)): path for path in paths if path.is_file()}
    files.pop(str(PAGE), None)
    return files


def hash_file(path, known={}):  # noqa: B006, remembers what did not change
    """Digest of a file's content."""
    status = path.stat()
    key = str(path), status.st_ino, status.st_mtime_ns, status.st_size
    if key not in known:
        known[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return known[key]


def list_incomplete(folder):
    """Outputs that Snakemake knows as unfinished."""
    state = folder / ".snakemake/incomplete"
    names = (path.relative_to(state).parts for path in state.rglob("*") if path.is_file())
    encoded = ("".join(part.removeprefix("@") for part in parts) for parts in names)
    return {base64.urlsafe_b64decode(name).decode() for name in encoded}


def check_finished(folder, reference):
    """Compare what is finished after a kill with the undisturbed run.

    Returns
    -------
    under_way, finished : int
        Number of files that are unfinished work or temporary, and of those that are neither.
    wrong : list of str
        Which of the latter differ.
    """
    incomplete, wrong, finished, under_way = list_incomplete(folder), [], 0, 0
    for name, path in list_results(folder).items():
        # Temporary files are not in the reference; what is made of them is.
        partial = path.name.startswith(".part-") or "/partial/" in name
        if name in incomplete or partial or name not in reference:
            under_way += 1
            continue
        finished += 1
        if reference[name] != hash_file(path):
            wrong.append(name)
    return under_way, finished, wrong


def kill_group(process):
    """Kill a run and its jobs, which share its process group, and wait until they are gone."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(50_000):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(LOOK)
    raise RuntimeError("processes survived SIGKILL")


def await_moment(process, watcher, wanted, spread, chance, early):
    """Wait for the moment to kill.

    Parameters
    ----------
    process : subprocess.Popen
    watcher : Watcher
    wanted : set of str
        Rules not hit yet.
    spread : dict of str to float
        Seconds over which a rule's kill may fall.
    chance : random.Random
    early : float or None
        Kill after so many seconds, before the first job.

    Returns
    -------
    rule, seconds
        What the kill is to hit, and how long that has worked; None if the run has ended.
    """
    start = time.monotonic()
    while process.poll() is None:
        started = watcher.look()
        if early is not None and time.monotonic() - start >= early and not watcher.running:
            return STARTING, time.monotonic() - start
        for rule, job in started:
            if rule not in wanted or early is not None:
                continue
            moment = watcher.running.get(job, (rule, 0))[1] + chance.uniform(0, spread[rule])
            while process.poll() is None and job in watcher.running:
                if time.monotonic() >= moment:
                    return rule, time.monotonic() - watcher.running[job][1]
                time.sleep(LOOK)
                started += watcher.look()
        time.sleep(LOOK)
    watcher.look()
    return None


def kill_and_continue(folder, logs, reference, usual, wanted, chance, arguments, n_early=2):
    """Kill runs of one command until every rule was hit, and let the last one end.

    Returns
    -------
    list of Kill
    """
    kills, again, wanted, paces = [], [], set(wanted), [1.0]
    for number in range(10 * len(usual) + 20):
        log = logs / f"run{number:03d}.log"
        early = chance.uniform(0, 2) if number < n_early else None
        process, watcher = start_run(folder, log, [*arguments, *again]), Watcher(log)
        # The machine may be slower or faster now than when the undisturbed run was made.
        spread = {rule: usual[rule] * statistics.median(paces[-9:]) for rule in wanted}
        moment = await_moment(process, watcher, wanted, spread, chance, early)
        running = sorted(rule for rule, _ in watcher.running.values())
        if moment is not None:
            kill_group(process)
            finish_run(folder, logs / "unlock.log", ["--unlock"])
        watcher.look()
        paces += [seconds / usual[rule] for rule, seconds in watcher.durations]
        if watcher.running or watcher.durations or process.returncode == 0:
            for kill in kills:
                kill.continued = True
        if moment is None and process.returncode:
            sys.exit(f"the command did not continue:\n{log.read_text()[-3000:]}")
        if moment is None and not wanted:
            return kills
        # A job can end sooner than usual; what was missed so is made once more. That command, too,
        # is given until it has ended: what nothing needs is only made again where it is forced.
        if moment is None:
            again = ["--forcerun", *sorted(wanted)]
        else:
            wanted.discard(moment[0])
            found = check_finished(folder, reference)
            kills.append(Kill(*moment, spread.get(moment[0], 0), running, *found))
            print_kill(len(kills), kills[-1])
    sys.exit(f"not hit: {', '.join(sorted(wanted))}")


def print_kill(number, kill):
    """Print what is known right after a kill."""
    beside = kill.running.copy()
    if kill.rule in beside:
        beside.remove(kill.rule)
    wrong = f"WRONG: {' '.join(kill.wrong)}" if kill.wrong else "all equal"
    print(
        f"{number:3d}  {kill.rule:26s} {kill.seconds:6.2f} of {kill.usual:6.2f} s"
        f"  {kill.under_way:3d} files under way, {kill.finished:3d} finished: {wrong}"
        + (f"  (beside it {', '.join(beside)})" if beside else ""),
        flush=True,
    )


def compare_end(folder, reference):
    """Names of files that differ at the end, are missing or should not be there."""
    found = {name: hash_file(path) for name, path in list_results(folder).items()}
    names = found.keys() | reference.keys()
    return sorted(name for name in names if found.get(name) != reference.get(name))


def copy_project(folder, config):
    """Copy what a run needs and write its configuration."""
    folder.mkdir(parents=True)
    for name in COPIED:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, folder / name)
    write_config(folder, **config)


def report(kills, wrong, n_files):
    """Print the tally; return whether everything is as it should be."""
    recovered = sum(kill.recovered for kill in kills)
    hit = {kill.rule for kill in kills} - {STARTING}
    shares = [kill.seconds / kill.usual for kill in kills if kill.usual]
    print(f"{recovered} of {len(kills)} kills recover; {len(hit)} types of rules hit")
    if shares:
        thirds = [
            sum(low <= min(share, 0.999) * 3 < low + 1 for share in shares) for low in range(3)
        ]
        print(
            "in the first, second and last third of a job's usual time: {}, {}, {}".format(*thirds)
        )
    print(f"before the first job: {sum(kill.rule == STARTING for kill in kills)}")
    print(f"{n_files - len(wrong)} of {n_files} files are those of the undisturbed run")
    for name in wrong:
        print(f"  differs: {name}")
    return recovered == len(kills) and not wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="made; 1 GB")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, help="rules to hit (default: all)")
    parser.add_argument("targets", nargs="*", help="files to make (default: all)")
    parser.add_argument(
        "--undisturbed",
        type=Path,
        help="a finished run of the tiny configuration; one subject and all subjects' products are "
        "made again (default: one is made, and all is made again)",
    )
    options = parser.parse_args()
    # Runs have working directories of their own.
    base = options.folder.resolve()
    if base.exists():
        parser.error(f"{base} exists already; remove it or name another")
    base.mkdir(parents=True)
    undisturbed, killed = options.undisturbed, base / "killed"
    began = time.monotonic()
    if undisturbed:
        shutil.copytree(undisturbed, killed, symlinks=True)
        for name in ("subj01", "figures", "tables", "report"):
            shutil.rmtree(killed / "results" / name)
    else:
        undisturbed = base / "undisturbed"
        for folder in (undisturbed, killed):
            copy_project(folder, TINY_DEMO)
        finish_run(undisturbed, base / "undisturbed.log", options.targets)
        print(f"undisturbed run: {time.monotonic() - began:.0f} s")
        began = time.monotonic()
    usual = read_usual(undisturbed)
    reference = {name: hash_file(path) for name, path in list_results(undisturbed).items()}
    chance = random.Random(options.seed)
    wanted = chance.sample(sorted(usual), min(options.kills or len(usual), len(usual)))
    kills = kill_and_continue(killed, base, reference, usual, wanted, chance, options.targets)
    print(f"killed runs: {time.monotonic() - began:.0f} s")
    if not report(kills, compare_end(killed, reference), len(reference)):
        sys.exit(1)


if __name__ == "__main__":
    main()
