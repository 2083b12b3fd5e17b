"""Models from the hub's cache, and the demo's, without a network."""

import os
import shutil
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from diffusers import AutoencoderKL
from diffusion_models import DEMO_MODEL, save_model

from nsdldm.diffusion.check import check_model
from nsdldm.diffusion.loading import load_autoencoder, load_denoiser, load_text
from nsdldm.features.networks import load_extractors
from nsdldm.support import hub
from nsdldm.support.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]
NAME, COMMIT = "owner/tiny", "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import sys
def refuse(event, _):
    if event.startswith("socket."):
        raise AssertionError(f"{event}: a socket was used")
sys.addaudithook(refuse)
import torch
from nsdldm.diffusion.loading import load_autoencoder, load_denoiser, load_text
place = sys.argv[1], sys.argv[2], torch.device("cpu"), torch.float32
print(load_autoencoder(*place).config.scaling_factor)
print(len(load_text(*place)[0]))
print(load_denoiser(*place, "ddim")[0].config.sample_size)
for other in sys.argv[3:]:
    load_autoencoder(place[0], other, *place[2:])
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """HF_HOME with a model as huggingface-hub would have fetched it."""
    home = tmp_path_factory.mktemp("home")
    repository = home / "hub/models--owner--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    save_model(snapshot)
    # As there, the files are links to contents named by their checksums.
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(p for p in snapshot.rglob("*") if p.is_file())):
        blob = repository / f"blobs/{number:064x}"
        path.rename(blob)
        path.symlink_to(os.path.relpath(blob, path.parent))
    return home


def load_offline(home, name, *revisions, offline="1"):
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": offline}
    environment["PYTHONPATH"] = str(PROJECT)
    command = [sys.executable, "-c", LOAD, name, *revisions]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_fetched_commit_loads_without_sockets_and_another_is_one_error(home):
    """Which says what to do."""
    result = load_offline(home, NAME, COMMIT, "f" * 40)
    assert result.stdout.splitlines()[::2] == ["0.4", "8"]
    last = result.stderr.strip().splitlines()[-1]
    assert "InputError: owner/tiny/vae: expected" in last
    assert f"at revision {'f' * 40}, found" in last
    assert last.endswith(
        "Fetch it once where there is a network (docs/offline.md), or unset HF_HUB_OFFLINE."
    )


def test_a_fetched_commit_needs_no_setting(home):
    result = load_offline(home, NAME, COMMIT, offline="0")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_the_preflight_looks_for_the_snapshot(home, monkeypatch, revision):
    monkeypatch.setenv("HF_HOME", str(home))
    # What is there needs no hub, and none is there.
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert check_model(NAME, revision) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert check_model(NAME, revision) == []
    (finding,) = check_model("owner/other", revision)
    assert "`path` owner/other" in str(finding)
    assert f"revision {revision} at {home}/hub/models--owner--other/snapshots/" in str(finding)
    assert "docs/offline.md" in finding.remedy


class Refuse(BaseHTTPRequestHandler):
    """A hub that answers, if only to say no."""

    def do_HEAD(self):
        self.send_response(403)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_hub_that_answers_may_be_asked(home, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refuse) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert check_model("owner/other", COMMIT) == []
        server.shutdown()


def test_without_a_network_it_is_one_line_and_nothing_is_tried_again(home, monkeypatch):
    """The library is not even asked, which would try five times."""
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(AutoencoderKL, "load_config", None)
    # A port that nothing listens on, one that takes connections and says nothing, and no port.
    monkeypatch.setattr(hub, "PATIENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for port in (9, mute.getsockname()[1], "none"):
            monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
            (finding,) = check_model("owner/other", COMMIT)
            with pytest.raises(InputError) as caught:
                load_autoencoder("owner/other", COMMIT, torch.device("cpu"), torch.float32)
            # Of a busy machine the reason may differ: no connection in time, or no answer.
            for found in (finding, *caught.value.findings):
                assert found.where == finding.where and found.remedy == finding.remedy
                assert f"or a connection to http://127.0.0.1:{port}, found neither (" in str(found)
            assert len(caught.value.findings) == 1 and "docs/offline.md" in finding.remedy


def test_the_preflight_names_parts_that_were_not_fetched(home, monkeypatch, tmp_path):
    shutil.copytree(home / "hub", tmp_path / "cache", symlinks=True)
    shutil.rmtree(tmp_path / f"cache/models--owner--tiny/snapshots/{COMMIT}/unet")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    (finding,) = check_model(NAME, COMMIT)
    assert finding.where.endswith(f"{COMMIT}/unet")
    assert "Fetch it once" in finding.remedy


def test_the_demo_loads_without_sockets(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    place = str(DEMO_MODEL), None, torch.device("cpu"), torch.float32
    load_autoencoder(*place)
    load_text(*place)
    load_denoiser(*place, "ddim")
    for name in ("demo-clip", "demo-alexnet", "demo-judge"):
        load_extractors(name, {"weights": str(DEMO_MODEL)}, torch.device("cpu"))
