"""Which device is used, and what is said of it; what torch says is quoted from its sources."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nsdldm.support import devices
from nsdldm.support.devices import check_gpu, choose_device, explain_missing
from nsdldm.support.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
CPU_BUILD = torch.version.cuda is None and torch.version.hip is None
# c10/cuda/CUDAFunctions.cpp and torch/csrc/cuda/Module.cpp.
SAID = {
    "there is no NVIDIA driver": "Found no NVIDIA driver on your system. Please check that you "
    "have an NVIDIA GPU and installed a driver from http://www.nvidia.com/Download/index.aspx",
    "the NVIDIA driver is too old": "The NVIDIA driver on your system is too old (found version "
    "11040). Please update your GPU driver by downloading and installing a new version",
    "no GPU is visible to this process": "No CUDA GPUs are available",
    "says: CUDA unknown error": "CUDA unknown error\nmore lines",
}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch, tmp_path):
    """Nothing was logged yet, and there is no driver."""
    devices._announce.cache_clear()
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "version")


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_every_job_logs_device_build_and_free_memory_once(no_gpu, caplog):
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            choose_device("auto")
    (line,) = caplog.messages
    assert line.startswith("Device: cpu, ") and f"torch {torch.__version__}" in line
    stated = float(re.search(r"([\d.]+) GB of memory free", line).group(1))
    text = Path("/proc/meminfo").read_text()
    total, free = (
        int(re.search(rf"{name}: +(\d+)", text).group(1)) for name in ("MemTotal", "MemFree")
    )
    assert 0 < stated <= total / 1e6 and stated > 0.5 * free / 1e6


def test_a_gpu_is_logged_with_its_name_and_free_memory(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (75_200_000_000, 85_000_000_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    with caplog.at_level(logging.INFO):
        assert choose_device("prefer-cuda").type == "cuda"
    (line,) = caplog.messages
    assert "cuda (NVIDIA H100)" in line and "75.2 of 85.0 GB of its memory free" in line


@pytest.mark.parametrize(
    ("device", "driver", "warned"),
    [
        ("prefer-cuda", False, True),
        ("auto", False, False),
        ("auto", True, True),
        ("cpu", True, False),
    ],
)
def test_falling_back_is_warned_of_where_a_gpu_was_wanted(no_gpu, caplog, device, driver, warned):
    """On real data, and wherever a driver says that there is a GPU."""
    if driver:
        devices.DRIVER.write_text("NVRM version")
    assert choose_device(device).type == "cpu"
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert bool(warnings) == warned
    assert all("No GPU is used: torch" in text and "docs/gpu.md" in text for text in warnings)


@pytest.mark.skipif(not CPU_BUILD, reason="needs a build for CPUs")
def test_a_build_for_cpus_is_named():
    assert explain_missing() == f"torch {torch.__version__} is a build for CPUs only"
    with pytest.raises(InputError, match=r"a GPU for cuda, found none .*build for CPUs only"):
        choose_device("cuda")


@pytest.mark.parametrize("meaning", SAID)
def test_what_torch_says_becomes_one_clause(monkeypatch, no_gpu, meaning):
    def refuse():
        raise RuntimeError(SAID[meaning])

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", refuse)
    assert meaning in explain_missing() and torch.__version__ in explain_missing()
    assert "\n" not in explain_missing()
    with pytest.raises(InputError, match="GPU: expected one that torch can use, found none"):
        check_gpu()


def test_a_gpu_without_code_in_the_build_is_no_gpu(monkeypatch):
    def refuse(*shape, device):
        raise RuntimeError(
            "CUDA error: no kernel image is available for execution on the device\nx"
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", refuse)
    with pytest.raises(InputError, match="cannot compute: CUDA error: no kernel image"):
        check_gpu()


def test_make_check_gpu_ends_with_one_sentence_or_names_the_gpu():
    command = subprocess.run(
        ["make", "--dry-run", "--old-file", ".venv/installed", "check-gpu"],
        capture_output=True,
        text=True,
        cwd=PROJECT,
        # Not as part of the make that runs this.
        env={key: value for key, value in os.environ.items() if not key.startswith("MAKE")},
        check=True,
    ).stdout.strip()
    program, *arguments = command.splitlines()[-1].split()
    assert program == ".venv/bin/python"
    run = [sys.executable, *arguments]
    result = subprocess.run(run, capture_output=True, text=True, cwd=PROJECT)
    if torch.cuda.is_available():
        assert result.returncode == 0 and result.stdout.startswith("Device: cuda")
    else:
        assert result.returncode == 1 and result.stdout == ""
        assert re.fullmatch(
            r"GPU: expected .*, found none \(.*\)\. See docs/gpu\.md\.\n", result.stderr
        )


def test_rules_name_the_device_in_one_place():
    for path in (PROJECT / "rules").glob("*.smk"):
        text = path.read_text()
        assert path.name == "common.smk" or '"model/device"' not in text
        assert set(re.findall(r"\bdevice=(.*),", text)) <= {"DEVICE"}
