"""The notebook of the documentation, run on a finished run."""

import jupytext
import numpy as np
import pytest
from conftest import PROJECT
from nbclient import NotebookClient
from PIL import Image

import nsdldm
from nsdldm import stats

pytestmark = pytest.mark.slow
NOTEBOOK = PROJECT / "docs/notebooks/own_figure.py"


@pytest.fixture(scope="module")
def executed(finished):
    """The notebook with its outputs, and the folder that it ran in."""
    folder = finished / "docs/notebooks"
    folder.mkdir(parents=True)
    notebook = jupytext.read(NOTEBOOK)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where).execute()
    return notebook, folder


def test_cells_say_and_draw_what_they_should(executed, finished):
    notebook, folder = executed
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = "".join(output.get("text", "") for output in outputs)
    assert "220 training and 40 test images" in text
    assert "image/png" in {kind for output in outputs for kind in output.get("data", {})}
    with Image.open(folder / "own_figure.png") as picture:
        assert picture.width > 1000
        assert np.asarray(picture.convert("L")).std() > 10


def test_the_run_gives_back_what_it_predicted_and_decoded(finished):
    """As in unit tests, but of the real rules: paths and names are those of a run."""
    run = nsdldm.load(finished / "results", "subj01")
    test = (run.images["split"] == "test").to_numpy()
    observed = run.responses("cortex").test
    for space in ("z", "c", "zc"):
        predicted = run.predict_responses(run.features(space)[test], space)
        stored = run.scores(space)["r"]
        varies = (predicted.std(axis=0) > 1e-4) & (observed.std(axis=0) > 0)
        assert varies.mean() > 0.5
        ours = stats.correlate(observed, predicted)
        np.testing.assert_allclose(ours[varies], stored[varies], atol=1e-2)
    for target, roi in (("z", "early"), ("c", "ventral")):
        averages = run.responses(roi, "zscored/trials").test
        np.testing.assert_allclose(run.decode(averages, target), run.decoded(target), atol=1e-3)
