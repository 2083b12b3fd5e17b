"""In which order is looked for what a run lacks."""

import pytest

from nsdldm.workflow import start
from nsdldm.workflow.loading import load_settings
from nsdldm.workflow.release import Release


@pytest.fixture
def look(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_settings({"dataset": "demo"})

    def looked(dry=False):
        return list(start.look_before(config, Release(config), ["asked"], dry, alike=True))

    return looked


def test_targets_before_folders_before_the_rest(look):
    titles = dict.fromkeys(title for title, _ in look())
    assert list(titles) == [
        "Nothing can be run here:",
        "What was asked for cannot be made:",
        "Nothing can be written over other results:",
        "Nothing can be written:",
        "The run cannot start; nothing was computed:",
    ]
    assert ("What was asked for cannot be made:", ["asked"]) in look()


def test_a_dry_run_writes_snakemakes_state_alone(look, tmp_path):
    (tmp_path / "results").write_text("a file")
    (finding,) = (own for title, own in look() if title == "Nothing can be written:" and own)
    assert finding[0].where == str(tmp_path / "results")
    assert not any(own for title, own in look(dry=True) if title == "Nothing can be written:")
