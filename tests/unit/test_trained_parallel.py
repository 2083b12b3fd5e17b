import logging
import socket

import numpy as np
import torch
from test_trained_loop import SCHEDULE, Line, fit
from trained_files import FORKS

from nsdldm.support.errors import Finding, InputError
from nsdldm.trained import parallel

DEFAULT_PORT = 29_500  # accelerate's


def train_and_save(device, folder):
    """As a stage does: every process trains, the main one writes."""
    torch.set_num_threads(1)
    network = Line()
    table = fit(network, folder)
    process = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    values = [*network.map.weight.detach().flatten().tolist(), *table["loss"]]
    np.save(folder / f"{process}-{device}.npy", values)
    (folder / f"{process}.level").write_text(str(logging.getLogger("nsdldm").getEffectiveLevel()))


def fail(device, folder):
    raise InputError(Finding("stage 1", "a loss", "none", "Lower the rate"))


def launch(folder, n, function=train_and_save):
    logging.getLogger().setLevel(logging.INFO)
    parallel.torch.cuda.device_count = lambda: n
    # Another job on the same node.
    with socket.socket() as taken:
        try:
            taken.bind(("127.0.0.1", DEFAULT_PORT))
            taken.listen()
        except OSError:
            pass
        try:
            parallel.run_on_all_gpus(function, device="auto", folder=folder)
        except InputError as error:
            (folder / "error.txt").write_text(str(error))


def run(folder, *arguments):
    folder.mkdir()
    process = FORKS.Process(target=launch, args=(folder, *arguments))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    return {path.name: np.load(path) for path in folder.glob("*.npy")}


def test_one_process_a_gpu(tmp_path):
    """On processors here: only their number is asked of the GPUs."""
    one, two = run(tmp_path / "one", 1), run(tmp_path / "two", 2)
    assert one.keys() == {"0-auto.npy"} and two.keys() == {"0-auto.npy", "1-auto.npy"}
    for values in two.values():
        np.testing.assert_allclose(values, one["0-auto.npy"], rtol=1e-5, atol=1e-6)
    assert SCHEDULE.batch_size % 2 == 0
    levels = [int((tmp_path / "two" / f"{n}.level").read_text()) for n in (0, 1)]
    # Only the main process tells how far it is.
    assert levels == [logging.INFO, logging.WARNING]


def test_errors_of_inputs_come_through(tmp_path):
    run(tmp_path / "two", 2, fail)
    message = (tmp_path / "two/error.txt").read_text()
    assert message == "stage 1: expected a loss, found none. Lower the rate."


def test_without_gpus_nothing_is_launched(monkeypatch):
    monkeypatch.setattr(parallel.torch.cuda, "device_count", lambda: 1 / 0)
    calls = []
    parallel.run_on_all_gpus(lambda **given: calls.append(given), device="cpu", folder=1)
    assert calls == [{"device": "cpu", "folder": 1}]
