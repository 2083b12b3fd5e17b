import logging
import math
import os
import socket

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from trained_files import (
    FORKS,
    draw,
    one_thread,  # noqa: F401
)

from nsdldm.support.errors import InputError
from nsdldm.trained import loop
from nsdldm.trained.checkpoints import load_weights

CPU = torch.device("cpu")
SCHEDULE = loop.Schedule(
    batch_size=4,
    epochs=6,
    learning_rate=0.05,
    min_learning_rate=0.001,
    factors={},
    warmup=0.2,
    decay=0.1,
    betas=(0.9, 0.95),
    max_grad_norm=0.5,
    keep="last",
    seed=3,
)
ROWS, HELD_BACK = np.arange(10, 24), np.arange(5)
N_STEPS = 21
INPUTS, OUTPUTS = draw(24, 3), draw(24, 2, seed=1)


class Line(nn.Module):
    """Linear regression, of noisy inputs if wanted, with a layer that is frozen."""

    def __init__(self, noise=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.map, self.frozen, self.noise = nn.Linear(3, 2), nn.Linear(2, 2), noise
        self.frozen.requires_grad_(False)

    def forward(self, batch, generator):
        noise = torch.randn(batch["x"].shape, generator=generator)
        found = self.frozen(self.map(batch["x"] + self.noise * noise))
        loss = (found - batch["y"]).square().mean()
        return {"loss": loss, "twice": 2 * loss.detach()}


def fetch(rows):
    return {"x": INPUTS[rows], "y": OUTPUTS[rows]}


def fit(network, folder, plan=SCHEDULE, fetch=fetch, key="key", validation=HELD_BACK):
    return loop.train(
        network,
        fetch,
        ROWS,
        plan,
        validation=validation,
        partial=folder / "partial.safetensors",
        key=key,
        device=CPU,
        precision="no",
        label="toy",
    )


def assert_same(network, other):
    for name, tensor in other.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor), name


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25])
def test_rate_rises_in_a_line_and_falls_by_half_a_cosine(warmup):
    plan, n = SCHEDULE._replace(warmup=warmup), 40
    found = [loop.find_rate(plan, step, n) for step in range(n)]
    warm = round(warmup * n)
    rise = [0.05 * k / (warm + 1) for k in range(1, warm + 1)]
    fall = [0.0255 + 0.0245 * math.cos(math.pi * k / (n - warm)) for k in range(n - warm)]
    np.testing.assert_allclose(found, rise + fall, rtol=1e-12)
    assert max(found) == 0.05 and found.index(0.05) == warm


@pytest.mark.parametrize("size", [1, 4, 5, 14, 50])
def test_every_row_once_an_epoch(size):
    plan = SCHEDULE._replace(batch_size=size)
    n_steps = loop.count_steps(plan, len(ROWS))
    assert n_steps == round(6 * 14 / min(size, 14))
    batches = [loop.draw_rows(ROWS, step, plan) for step in range(n_steps)]
    assert {len(batch) for batch in batches} == {min(size, 14)}
    epochs = np.concatenate(batches)[: 5 * 14].reshape(5, 14)
    for epoch in epochs:
        assert sorted(epoch) == ROWS.tolist()
    assert len({tuple(epoch) for epoch in epochs}) == 5
    other = [loop.draw_rows(ROWS, step, plan._replace(seed=4)) for step in range(n_steps)]
    assert not np.array_equal(batches, other)


def reference(network, seen):
    """The same training by a plain loop; returns the loss of each step."""
    decayed, others = [network.map.weight], [network.map.bias]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0}]
    optimizer = torch.optim.AdamW(groups, betas=SCHEDULE.betas)
    losses = []
    for step, rows in enumerate(seen):
        for group in optimizer.param_groups:
            group["lr"] = loop.find_rate(SCHEDULE, step, N_STEPS)
        loss = network(fetch(rows), torch.Generator())["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.map.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_training_agrees_with_a_plain_loop(tmp_path):
    network, other, seen = Line(), Line(), []

    def watch(rows):
        if not set(rows) & set(HELD_BACK):
            seen.append(rows)
        return fetch(rows)

    table = fit(network, tmp_path, fetch=watch)
    losses = reference(other, seen)
    assert table.columns.tolist() == [
        "step",
        "epoch",
        "learning_rate",
        "loss",
        "twice",
        "validation",
    ]
    np.testing.assert_allclose(table["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(table["twice"], np.multiply(losses, 2), rtol=1e-5)
    np.testing.assert_allclose(table["epoch"], np.arange(1, 22) * 4 / 14)
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor)
    assert not network.training
    last = network(fetch(HELD_BACK), torch.Generator())["loss"].item()
    # The last time at the end.
    assert table["validation"].count() == loop.EVALUATIONS
    assert table["validation"].iloc[-1] == pytest.approx(last)


def test_long_trainings_have_curves_of_a_hundred_rows(tmp_path):
    table = fit(Line(), tmp_path, SCHEDULE._replace(epochs=150), key="long")
    assert len(table) == 100 and table["step"].iloc[-1] == 525
    assert table["validation"].count() == loop.EVALUATIONS
    every = fit(Line(), tmp_path, SCHEDULE._replace(epochs=1), validation=HELD_BACK[:0])
    assert every["step"].tolist() == [1, 2, 3, 4]
    assert every["validation"].isna().all()


def test_validation_rows_are_watched_in_batches_of_one_size(tmp_path):
    sizes = []

    def count(rows):
        if set(rows) <= set(HELD_BACK):
            sizes.append(len(rows))
        return fetch(rows)

    n = len(HELD_BACK)
    fit(Line(), tmp_path, SCHEDULE._replace(epochs=1, batch_size=n - 1), fetch=count)
    assert set(sizes) == {n // 2, n - n // 2} and sum(sizes) % n == 0


def test_only_matrices_decay(tmp_path):
    class Still(nn.Module):
        def __init__(self):
            super().__init__()
            self.shapes = {"matrix": (3, 2), "kernel": (2, 1, 4), "bias": (3,), "token": (1, 1, 3)}
            self.shapes |= {"map_bias": (4, 3)}
            for name, shape in {**self.shapes, "number": ()}.items():
                setattr(self, name, nn.Parameter(torch.ones(shape)))

        def forward(self, batch, generator):
            return {"loss": sum(0 * p.sum() for p in self.parameters()) + 1}

    network = Still()
    fit(network, tmp_path, validation=HELD_BACK[:0])
    left = math.prod(1 - 0.1 * loop.find_rate(SCHEDULE, step, N_STEPS) for step in range(N_STEPS))
    for name, parameter in network.named_parameters():
        expected = left if name in ("matrix", "kernel") else 1
        np.testing.assert_allclose(parameter.detach(), expected, rtol=1e-5, err_msg=name)


def test_parts_of_a_network_have_rates_of_their_own(tmp_path):
    plan = SCHEDULE._replace(
        factors={"slow": 0.1, "still": 0.0, "absent": 5.0}, max_grad_norm=None, decay=0
    )

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("slow", "still", "other"):
                setattr(self, name, nn.ParameterList([torch.zeros(2, 2), torch.zeros(2)]))

        def forward(self, batch, generator):
            return {"loss": 9 - sum(p.sum() for p in self.parameters())}

    network = Parts()
    table = fit(network, tmp_path, plan, validation=HELD_BACK[:0])
    # A constant gradient makes steps of Adam as long as the rate.
    way = sum(loop.find_rate(plan, step, N_STEPS) for step in range(N_STEPS))
    for name, factor in (("slow", 0.1), ("still", 0.0), ("other", 1.0)):
        for parameter in getattr(network, name):
            np.testing.assert_allclose(parameter.detach(), factor * way, rtol=1e-4)
    np.testing.assert_allclose(table["learning_rate"].sum(), way)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_interrupted_training_ends_as_an_undisturbed_one(tmp_path, keep):
    plan = SCHEDULE._replace(keep=keep, epochs=60)
    expected = Line(noise=0.5)
    curve = fit(expected, tmp_path, plan)
    (tmp_path / "partial.safetensors").unlink()
    calls = []

    def stop(rows):
        calls.append(rows)
        if len(calls) in (90, 91, 200):
            raise KeyboardInterrupt
        return fetch(rows)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            fit(Line(noise=0.5), tmp_path, plan, stop)
    network = Line(noise=0.5)
    pd.testing.assert_frame_equal(fit(network, tmp_path, plan, stop), curve, check_exact=True)
    assert_same(network, expected)
    # Less than two trainings of 210 steps: it did go on.
    assert len(calls) < 350


def test_finished_training_does_nothing_again(tmp_path):
    expected = Line()
    curve = fit(expected, tmp_path)
    network = Line()
    pd.testing.assert_frame_equal(fit(network, tmp_path, fetch=None), curve, check_exact=True)
    assert_same(network, expected)


@pytest.mark.parametrize("damage", ["other key", "truncated"])
def test_checkpoints_of_no_use_are_discarded(tmp_path, damage, caplog):
    expected = Line()
    fit(expected, tmp_path)
    other = SCHEDULE._replace(learning_rate=0.01, epochs=2)
    fit(Line(), tmp_path, other, key="key" if damage == "truncated" else "other")
    path = tmp_path / "partial.safetensors"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    network = Line()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        fit(network, tmp_path)
    assert_same(network, expected)
    assert caplog.text.count("discarded") == 1 and str(path) in caplog.text


def test_frozen_parameters_stay_and_are_not_in_the_checkpoint(tmp_path):
    network = Line()
    fit(network, tmp_path)
    assert_same(network.frozen, Line().frozen)
    assert not torch.equal(network.map.weight, Line().map.weight)
    state, about = load_weights(tmp_path / "partial.safetensors")
    assert {name for name in state if name.startswith("network")} == {
        "network.map.weight",
        "network.map.bias",
    }
    assert not [name for name in state if "frozen" in name]
    assert about["step"] == N_STEPS


class Drift(nn.Module):
    """Its only weight grows at a steady rate; validation rows are fitted best on the way."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch, generator):
        if batch["validation"].all():
            return {"loss": (self.weight - 0.5).square().sum()}
        return {"loss": 5 - self.weight.sum()}


@pytest.mark.parametrize("keep", ["best", "last"])
def test_best_weights_are_those_of_the_smallest_loss_of_validation_rows(tmp_path, keep):
    network = Drift()
    plan = SCHEDULE._replace(keep=keep, max_grad_norm=None, warmup=0.0, min_learning_rate=0.05)
    mark = {False: torch.zeros(1, dtype=torch.bool), True: torch.ones(1, dtype=torch.bool)}
    table = fit(network, tmp_path, plan, lambda rows: {"validation": mark[bool(rows[0] < 5)]})
    validation = table["validation"]
    # A gradient of constant sign makes steps of Adam as long as the rate.
    assert network.weight.item() == pytest.approx(0.5 if keep == "best" else 1.05, abs=0.05)
    assert (network.weight.item() - 0.5) ** 2 == pytest.approx(
        validation.min() if keep == "best" else validation.iloc[-1], abs=1e-6
    )
    assert validation.iloc[-1] > 10 * validation.min()


def test_absurd_rates_end_in_one_message(tmp_path):
    plan = SCHEDULE._replace(learning_rate=1e3, max_grad_norm=None, epochs=30)
    with pytest.raises(InputError) as raised:
        fit(Line(), tmp_path, plan)
    message = str(raised.value)
    assert message.startswith("toy: expected a loss that falls from ")
    assert "the training has diverged. Lower the learning rate" in message
    assert message.count("\n") == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_no_numbers_end_a_training_and_keep_its_checkpoint(tmp_path, value):
    calls = []

    def spoil(rows):
        calls.append(rows)
        return fetch(rows) if len(calls) < 15 else {"x": INPUTS[rows] * value, "y": OUTPUTS[rows]}

    with pytest.raises(InputError, match="diverged"):
        fit(Line(), tmp_path, fetch=spoil)
    state, about = load_weights(tmp_path / "partial.safetensors")
    assert 0 < about["step"] < 15
    assert all(tensor.isfinite().all() for tensor in state.values())
    # The remedy, such as other data of the same key, goes on from there.
    network = Line()
    fit(network, tmp_path)
    assert network.map.weight.isfinite().all()


def test_keys_tell_settings_and_contents_apart(tmp_path):
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(text)
    code = "nsdldm/trained/pretraining.py"

    def identify(settings, name):
        return loop.make_key(code, settings, [tmp_path / name])

    key = identify({"learning_rate": 1, "width": 2}, "a")
    assert identify({"width": 2, "learning_rate": 1}, "b") == key
    assert identify({"width": 2, "learning_rate": 1.5}, "a") != key
    assert identify({"width": 2, "learning_rate": 1}, "c") != key
    assert loop.make_key("nsdldm/trained/alignment.py", {"width": 2, "learning_rate": 1}, []) != key


def test_precision_follows_the_device():
    assert loop.choose_precision("auto", CPU) == "no"
    assert loop.choose_precision("auto", torch.device("cuda")) == "bf16"
    assert loop.choose_precision("float32", torch.device("cuda")) == "no"
    assert loop.choose_precision("fp16", CPU) == "fp16"
    with pytest.raises(InputError, match="precision"):
        loop.choose_precision("fp8", CPU)


def train_apart(rank, n_processes, port, folder, plan):
    """In a process of its own, as accelerate's launcher starts them."""
    torch.set_num_threads(1)
    if n_processes > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {"WORLD_SIZE": str(n_processes), "MASTER_PORT": str(port)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(n_processes), "ACCELERATE_USE_CPU": "1"}
    network = Line()
    (folder / str(rank)).mkdir(parents=True)
    try:
        table = fit(network, folder / str(rank), plan)
        table.to_csv(folder / f"{rank}.tsv", sep="\t", index=False)
    except InputError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    torch.save(network.state_dict(), folder / f"{rank}.pt")


def run(folder, n_processes, plan):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [(rank, n_processes, port, folder, plan) for rank in range(n_processes)]
    processes = [FORKS.Process(target=train_apart, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * n_processes


def test_two_processes_train_as_one_with_the_same_batches(tmp_path):
    """Batches of 5 rows, so that their shares differ."""
    plan = SCHEDULE._replace(batch_size=5, epochs=3)
    run(tmp_path / "two", 2, plan)
    run(tmp_path / "one", 1, plan)
    expected = pd.read_csv(tmp_path / "one/0.tsv", sep="\t")
    for rank in (0, 1):
        table = pd.read_csv(tmp_path / f"two/{rank}.tsv", sep="\t")
        pd.testing.assert_frame_equal(table, expected, rtol=1e-5)
        state = torch.load(tmp_path / f"two/{rank}.pt", weights_only=True)
        for name, tensor in torch.load(tmp_path / "one/0.pt", weights_only=True).items():
            torch.testing.assert_close(state[name], tensor, rtol=1e-5, atol=1e-6)
    # Only one of them writes checkpoints.
    assert [p.name for p in (tmp_path / "two").rglob("*.safetensors")] == ["partial.safetensors"]


def test_every_process_stops_where_one_diverges(tmp_path):
    run(tmp_path, 2, SCHEDULE._replace(learning_rate=1e3, max_grad_norm=None, epochs=30))
    messages = {(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)}
    assert len(messages) == 1 and "diverged" in messages.pop()


def test_more_processes_than_rows():
    plan = SCHEDULE._replace(batch_size=2)
    with pytest.raises(InputError, match="at least 4 rows in a batch"):
        loop.check_shares(4, plan, ROWS, HELD_BACK)
    loop.check_shares(2, plan, ROWS, HELD_BACK)
    loop.check_shares(2, plan, ROWS, HELD_BACK[:0])
