"""What jobs inherit from the process that starts them."""

import json
import os
from pathlib import Path

from nsdldm.support.errors import CALLED
from nsdldm.workflow.jobs import SETTINGS, prepare_jobs


def test_jobs_get_the_package_their_names_and_settings_that_are_not_set(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/mine")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "5")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    monkeypatch.setenv(CALLED, "{}")
    prepare_jobs(Path("/project"))
    assert os.environ["PYTHONPATH"].split(os.pathsep) == ["/project", "/mine"]
    assert os.environ["MALLOC_TRIM_THRESHOLD_"] == "5"
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == SETTINGS["HF_HUB_DISABLE_PROGRESS_BARS"]
    assert json.loads(os.environ[CALLED])["fit_encoders"]["alphas"] == "encoding.alphas"
