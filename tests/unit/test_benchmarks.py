"""Benchmarks that wait for a GPU run on a CPU too, and leave one complete table each."""

import json
import math
import os
import platform
import runpy
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from datetime import date
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nsdldm import __version__
from nsdldm.trained.sizes import count_preset

PROJECT = Path(__file__).resolve().parents[2]
BENCHMARKS = PROJECT / "benchmarks"
REPORT = runpy.run_path(str(BENCHMARKS / "report.py"))


def read_printed(text):
    """The rows of the Markdown table in a text, dicts of text by column."""
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    heads, rule, *rows = [[cell.strip() for cell in line] for line in lines]
    assert all(set(cell) == {"-"} for cell in rule)
    return [dict(zip(heads, row, strict=True)) for row in rows]


def refuse(constant):
    raise AssertionError(f"{constant} is not JSON")


def run_tiny(name, folder):
    """Run a benchmark with --tiny; returns the rows that it prints and the JSON that it writes."""
    path = folder / "made" / f"{name}.json"
    command = [sys.executable, BENCHMARKS / f"{name}.py", "--tiny", "--json", path]
    # Where there is a GPU, the test is the same.
    own = {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=os.environ | own, check=False
    )
    assert run.returncode == 0, run.stderr
    written = json.loads(path.read_text(), parse_constant=refuse)
    assert written["benchmark"] == name
    check_surroundings(written)
    return read_printed(run.stdout), written


def check_surroundings(written):
    """Date, machine and versions are those of this machine."""
    assert 0 <= (date.today() - date.fromisoformat(written["date"])).days <= 1
    machine = written["machine"]
    assert set(machine) == {"processor", "cores", "threads", "memory GB"}
    assert machine["processor"]
    assert 1 <= machine["cores"] <= os.cpu_count()
    assert machine["threads"] == 1
    assert 0.5 < machine["memory GB"] < 1e5
    libraries = ("torch", "diffusers", "transformers", "himalaya", "numpy", "scipy")
    own = {"python": platform.python_version(), "nsdldm": __version__}
    assert written["versions"] == own | {name: version(name) for name in libraries}


def check_rows(printed, rows, blank):
    """Both tables have the same rows, with finite numbers and nothing left blank but `blank`."""
    assert len(printed) == len(rows)
    for cells, row in zip(printed, rows, strict=True):
        assert [*cells] == [*row]
        for name, value in row.items():
            assert (value is None) == (cells[name] == "")
            assert value is not None or name in blank, name
            if isinstance(value, int | float):
                assert math.isfinite(value)
                assert value >= 0, name
                scale = 100 if cells[name].endswith("%") else 1
                # Printed with at least one decimal place.
                shown = float(cells[name].rstrip("%"))
                assert shown == pytest.approx(value * scale, abs=0.051, rel=0.01)
            elif value is not None:
                assert cells[name] == value


def test_ridge_by_all_ways(tmp_path):
    printed, written = run_tiny("ridge", tmp_path)
    rows = written["rows"]
    compared = {"same penalties", "largest difference"}
    check_rows(printed[:1], rows[:1], compared | {"GPU GB", "note"})
    check_rows(printed[1:], rows[1:], {"GPU GB", "note"})
    ways = [(row["way"], row["backend"]) for row in rows]
    assert ways == [("himalaya", "torch"), ("himalaya", "numpy"), ("sums", "torch")]
    assert rows[0]["same penalties"] is None
    # The same regression three times; rounding may tip a penalty.
    for row in rows[1:]:
        assert row["same penalties"] > 0.95
        assert 0 < row["largest difference"] < 1e-3
    ratio = rows[0]["seconds"] / rows[2]["seconds"]
    assert written["himalaya / sums"] == {"torch": pytest.approx(ratio)}
    assert written["options"]["size"] == [600, 100, 80]
    assert written["peak GB"] > 0.1


@pytest.mark.slow
def test_reconstruction_in_both_ways(tmp_path):
    printed, written = run_tiny("reconstruction", tmp_path)
    rows = written["rows"]
    # A process of so few pictures may take less than its startup took alone.
    check_rows(printed, rows, {"/s started", "GPU GB"})
    assert [(row["way"], row["pictures"]) for row in rows] == [("batched", 8), ("published", 2)]
    for row in rows:
        assert row["/s"] == pytest.approx(row["pictures"] / row["seconds"])
        assert row["startup"] > 0
        assert row["peak GB"] > 0.1
    assert written["batched / published"] == pytest.approx(rows[0]["/s"] / rows[1]["/s"])


@pytest.mark.slow
def test_training_of_every_stage(tmp_path):
    printed, written = run_tiny("trained", tmp_path)
    rows = written["rows"]
    check_rows(printed, rows, {"GPU GB", "note"})
    assert [(row["method"], row["stage"]) for row in rows] == [("fcae", n) for n in "123"]
    for row in rows:
        assert 0 < row["trained M"] <= row["parameters M"]
        assert row["samples/s"] == pytest.approx(row["batch"] / row["s/step"])
        assert row["peak GB"] > 0.1
    assert [row["batch"] for row in rows] == [64, 64, 16]
    assert rows[0]["parameters M"] * 1e6 == count_preset("fcae", 500, "demo")["total"]


def test_what_the_command_line_gives_counts_with_tiny(monkeypatch):
    def parse(*arguments):
        parser = ArgumentParser()
        parser.add_argument("--steps", type=int, default=50)
        parser.add_argument("--images", type=int, default=20)
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
        options = REPORT["parse_options"](parser, {"steps": 3, "images": 4})
        return options.steps, options.images

    assert parse() == (50, 20)
    assert parse("--tiny") == (3, 4)
    assert parse("--tiny", "--steps", "7") == (7, 4)


def test_a_table_is_printed_and_written(tmp_path, capsys):
    table = REPORT["Table"]({"way": "", "seconds": ".1f", "share of all": ".1%"})
    table.add({"way": "ours", "seconds": 1.26, "share of all": 0.125})
    table.add({"way": "theirs", "seconds": 12, "share of all": None})
    assert capsys.readouterr().out.splitlines() == [
        "|      way |  seconds | share of all |",
        "|----------|----------|--------------|",
        "|     ours |      1.3 |        12.5% |",
        "|   theirs |     12.0 |              |",
    ]
    options = Namespace(model=Path("folder"), steps=3)
    table.write(None, options, "cpu")
    table.write(tmp_path / "table.json", options, "cpu", ratio=2.5)
    written = json.loads((tmp_path / "table.json").read_text())
    assert written["rows"][1] == {"way": "theirs", "seconds": 12, "share of all": None}
    assert written["options"] == {"model": "folder", "steps": 3}
    assert written["ratio"] == 2.5
    table.add({"way": "neither", "seconds": math.nan})
    with pytest.raises(ValueError, match="JSON"):
        table.write(tmp_path / "table.json", options, "cpu")


def test_a_gpu_is_described(monkeypatch, capsys):
    gpu = SimpleNamespace(name="A GPU", total_memory=80_000_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: gpu)
    machine = REPORT["describe"]("cuda")["machine"]
    assert (machine["GPU"], machine["GPU memory GB"]) == ("A GPU", 80.0)
    assert machine["CUDA"] == torch.version.cuda
    REPORT["announce"]("cuda")
    assert capsys.readouterr().out.startswith("A GPU, 80.0 GB; ")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3_000_000_000)
    assert REPORT["measure_peaks"]("cuda")["GPU GB"] == 3.0


@pytest.fixture
def load(monkeypatch):
    """Import a benchmark as it imports its neighbour, which a folder of the project is named as."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return lambda name: runpy.run_path(str(BENCHMARKS / f"{name}.py"))


def test_ridge_on_a_gpu_and_at_the_papers_size(load):
    list_ways = load("ridge")["list_ways"]
    on_gpu = [("himalaya", "torch_cuda"), ("sums", "torch_cuda")]
    on_cpu = [("himalaya", "torch"), ("himalaya", "numpy"), ("sums", "torch")]
    assert list_ways(paper=False, gpu=True) == on_cpu + on_gpu
    # himalaya on the CPU would take hours and is extrapolated.
    assert list_ways(paper=True, gpu=True) == [*on_gpu, ("sums", "torch")]
    assert list_ways(paper=True, gpu=False) == [("sums", "torch")]


def test_a_batch_that_does_not_fit_is_halved_and_the_row_says_so(load, monkeypatch):
    measure_largest = load("trained")["measure_largest"]
    tried = []

    def measure(options, method, stage, size):
        tried.append(size)
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"batch": size}

    monkeypatch.setitem(measure_largest.__globals__, "measure", measure)
    options = Namespace(batch_size=None, size="full")
    fits = 100
    assert measure_largest(options, "mind-vis", "stage1") == {"batch": 100, "note": None}
    row = measure_largest(options, "vis-dec", "stage1")
    assert row == {"batch": 62, "note": "out of memory with 125"}
    assert tried == [100, 250, 125, 62]
    fits = 0
    with pytest.raises(torch.OutOfMemoryError):
        measure_largest(Namespace(batch_size=3, size="full"), "fcae", "stage1")
    assert tried[4:] == [3, 1]
