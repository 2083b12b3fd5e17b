"""A Slurm cluster of one node on this machine, for the time of a test; needs root.

Debian's slurm-wlm and munge, without a database. The node claims more cores and memory than it has,
so that what a job asks for decides what runs at once only where GPUs are concerned; a character
device stands for the one GPU that all want.
"""

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

PREFIX = "nsdldm-slurm-"
# Jobs are looked for here only: the executor removes SLURM_CONF from their environment.
ETC = Path("/etc/slurm")
MUNGE_PID = Path("/run/munge/munged.pid")
GPUS = ("/dev/null",)

SLURM_CONF = """\
ClusterName=nsdldm
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=64 RealMemory=512000 Gres=gpu:{n_gpus}
PartitionName=cpu Nodes=ALL Default=YES
PartitionName=gpu Nodes=ALL
"""


class ForeignSlurmError(RuntimeError):
    """This machine has a Slurm of its own, or another run of these tests."""


def find_remains(etc=ETC):
    """Folders of clusters that killed runs of these tests have left.

    Raises
    ------
    ForeignSlurmError
        If the place of the configuration is taken by anything else.
    """
    remains = set()
    for path in (etc / "slurm.conf", etc / "gres.conf"):
        if path.is_symlink() and PREFIX in os.readlink(path):
            folder = Path(os.readlink(path)).parent
            owner = folder / "owner"
            if owner.exists() and Path("/proc", owner.read_text()).exists():
                raise ForeignSlurmError(
                    f"{path} belongs to process {owner.read_text()}, another run of these tests. "
                    "Wait until it has ended."
                )
            remains.add(folder)
        elif path.exists():
            raise ForeignSlurmError(
                f"{path} configures another Slurm. These tests need that place for a cluster of "
                "their own: run them on a machine without Slurm, such as a container."
            )
    return remains


def ask(*command):
    """Output of a Slurm command."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(condition, what, seconds=30):
    """Wait until a function says yes."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(0.2)


def _munge_answers():
    # Not by the process: one that has died may still be listed.
    pipe = "munge -n | unmunge"
    return subprocess.run(pipe, shell=True, capture_output=True, check=False).returncode == 0


def _write_configuration(folder):
    host = socket.gethostname().split(".")[0]
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    conf = SLURM_CONF.format(host=host, folder=folder, n_gpus=len(GPUS))
    (folder / "slurm.conf").write_text(conf)
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={gpu}\n" for gpu in GPUS))
    for name in ("slurm.conf", "gres.conf"):
        (ETC / name).symlink_to(folder / name)


def _start(folder):
    (folder / "owner").write_text(str(os.getpid()))
    if not _munge_answers():
        MUNGE_PID.parent.mkdir(exist_ok=True)
        shutil.chown(MUNGE_PID.parent, "munge", "munge")
        subprocess.run(["runuser", "-u", "munge", "--", "munged"], check=True)
        (folder / "munge").touch()
    _write_configuration(folder)
    for daemon in ("slurmctld", "slurmd"):
        subprocess.run([daemon], check=True)
    wait_for(lambda: "idle" in ask("sinfo", "--noheader", "--format=%t"), "an idle node")


def _process(pid_file):
    """The process that a file names, if both are there."""
    process = Path("/proc", pid_file.read_text().strip()) if pid_file.exists() else None
    return process if process and process.exists() else None


def _end(pid_file):
    process = _process(pid_file)
    if process:
        os.kill(int(process.name), signal.SIGTERM)
        wait_for(lambda: not process.exists(), f"{pid_file.stem} to end")


def _end_jobs():
    """Jobs would outlive the daemons; a Slurm that does not answer has none to tell of."""
    subprocess.run(["scancel", "--user", str(os.getuid())], check=False)
    queue = ["squeue", "--noheader"]
    wait_for(
        lambda: not subprocess.run(queue, stdout=subprocess.PIPE, check=False).stdout, "jobs to end"
    )


def _stop(folder):
    try:
        if _process(folder / "slurmctld.pid"):
            _end_jobs()
    finally:
        _end(folder / "slurmd.pid")
        _end(folder / "slurmctld.pid")
        if (folder / "munge").exists():
            _end(MUNGE_PID)
        for name in ("slurm.conf", "gres.conf"):
            (ETC / name).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def slurm():
    """Start the cluster, and stop everything that was started."""
    for folder in find_remains():
        _stop(folder)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        _start(folder)
        yield
    except BaseException:
        for log in folder.glob("*.log"):
            print(f"{log.name}:\n{log.read_text()[-2000:]}")
        raise
    finally:
        _stop(folder)


def jobs():
    """What Slurm says of every job of the cluster, by job number."""
    lines = ask("scontrol", "--details", "--oneliner", "show", "job").splitlines()
    fields = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines if line.startswith("JobId")]
    return {int(job["JobId"]): job for job in fields}


def times(job):
    """When a job started and ended."""
    return tuple(datetime.fromisoformat(job[key]) for key in ("StartTime", "EndTime"))


def overlaps(held):
    """Pairs of jobs that ran at the same time."""
    held = sorted(held, key=times)
    pairs = itertools.pairwise(held)
    return [(a["JobId"], b["JobId"]) for a, b in pairs if times(a)[1] > times(b)[0]]
