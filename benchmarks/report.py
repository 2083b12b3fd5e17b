"""What benchmarks share: one table, printed row by row and written as JSON with machine, date and
versions; memory; and the model to measure with if none is given."""

import json
import os
import platform
import resource
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from nsdldm import __version__

PROJECT = Path(__file__).resolve().parents[1]
DEMO_MODEL = PROJECT / "resources/demo_model"
LIBRARIES = ("torch", "diffusers", "transformers", "himalaya", "numpy", "scipy")
CPU_INFO = Path("/proc/cpuinfo")


def parse_options(parser, tiny):
    """Read the command line, with the options that all of these benchmarks have.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    tiny : dict
        Defaults by option with --tiny. What the command line gives still counts.

    Returns
    -------
    argparse.Namespace
    """
    parser.add_argument("--tiny", action="store_true", help="seconds on a CPU, to see that it runs")
    parser.add_argument("--json", type=Path, help="also write the table there")
    if parser.parse_known_args()[0].tiny:
        parser.set_defaults(**tiny)
    return parser.parse_args()


class Table:
    """Rows with the same columns, in Markdown; each is printed as soon as it is there.

    Parameters
    ----------
    columns : dict of str
        By name, how its values are formatted.
    """

    def __init__(self, columns):
        self.columns, self.rows = columns, []
        self.widths = [max(len(name), 8) for name in columns]
        self._print([*columns])
        print("|" + "|".join("-" * (width + 2) for width in self.widths) + "|", flush=True)

    def add(self, row):
        """Add a row, a dict by column; a value that is missing or None is left blank."""
        values = {name: row.get(name) for name in self.columns}
        self.rows.append(values)
        formats = self.columns.values()
        pairs = zip(values.values(), formats, strict=True)
        self._print(["" if value is None else format(value, form) for value, form in pairs])

    def _print(self, cells):
        padded = (f"{cell:>{width}}" for cell, width in zip(cells, self.widths, strict=True))
        print("| " + " | ".join(padded) + " |", flush=True)

    def write(self, path, options, device, **more):
        """Write rows and what they were measured with as JSON.

        Parameters
        ----------
        path : Path or None
            Nothing is written without one.
        options : argparse.Namespace
        device : {"cpu", "cuda"}
        **more
            What else belongs to the table.
        """
        if path is None:
            return
        content = {"benchmark": Path(sys.argv[0]).stem, **describe(device)}
        content |= {"options": vars(options), **more, "rows": self.rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        # Strict JSON has no NaN: what is not known is null.
        path.write_text(json.dumps(content, indent=1, default=str, allow_nan=False) + "\n")


def describe(device):
    """Machine, date and versions.

    Parameters
    ----------
    device : {"cpu", "cuda"}
        With cuda, the GPU is described too.

    Returns
    -------
    dict
        date, machine and versions; memory in units of 1e9 bytes.
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machine = {
        "processor": _name_processor(),
        "cores": _count_cores(),
        "threads": torch.get_num_threads(),
        "memory GB": round(pages / 1e9, 1),
    }
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        machine |= {"GPU": gpu.name, "GPU memory GB": round(gpu.total_memory / 1e9, 1)}
        machine["CUDA"] = torch.version.cuda
    versions = {"python": platform.python_version(), "nsdldm": __version__}
    versions |= {name: version(name) for name in LIBRARIES}
    return {"date": date.today().isoformat(), "machine": machine, "versions": versions}


def announce(device):
    """Print the machine, the date and torch's version in one line."""
    found = describe(device)
    machine = found["machine"]
    gpu = f"{machine['GPU']}, {machine['GPU memory GB']} GB; " if device == "cuda" else ""
    cpu = f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads"
    place = f"{gpu}{cpu}, {machine['memory GB']} GB"
    print(f"{place}; torch {found['versions']['torch']}; {found['date']}", flush=True)


def _name_processor():
    """The processor's name, or its architecture where the system does not say."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next((name for name in names if name), platform.processor() or platform.machine())


def _count_cores():
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def measure_peaks(device):
    """The most memory that this process has taken.

    Parameters
    ----------
    device : {"cpu", "cuda"}

    Returns
    -------
    dict of float
        "peak GB" and, on the GPU alone, "GPU GB" (None without one), in units of 1e9 bytes.
    """
    # Kibibytes on Linux, bytes on macOS.
    scale = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e9
    on_gpu = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None
    return {"peak GB": host, "GPU GB": on_gpu}


def write_random_model(folder):
    """Write Stable Diffusion 1.4 with random weights (2 GB), for which times are the same."""
    script = PROJECT / "tests/unit/test_diffusion_full_size.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return folder
