import subprocess
import sys

import numpy as np
import pandas as pd

from nsdldm.encoding.summary import summarize_encoding, tabulate_encoding
from nsdldm.support.files import load_table, save_table, save_volume


def write_summary_inputs(folder):
    """A table of four voxels and two masks."""
    table = pd.DataFrame(
        {
            "i": [0, 0, 1, 1],
            "j": [0, 1, 0, 1],
            "k": [0, 0, 0, 0],
            "r": [0.1, 0.2, 0.6, np.nan],
            "ceiling": [0.3, 0.4, 0.8, np.nan],
            "ncsnr": [0.1, 0.3, 0.5, np.nan],
            "significant": [False, True, True, False],
        }
    )
    save_table(folder / "z.tsv", table)
    save_volume(folder / "cortex.nii.gz", np.ones((2, 2, 2), bool), np.eye(4))
    early = np.zeros((2, 2, 2), bool)
    early[0] = True
    save_volume(folder / "early.nii.gz", early, np.eye(4))
    save_volume(folder / "none.nii.gz", np.zeros((2, 2, 2), bool), np.eye(4))


def test_summary_by_hand(tmp_path):
    write_summary_inputs(tmp_path)
    rois = ("cortex", "early", "none")
    summary = summarize_encoding(
        subject="subj01",
        tables={"z": tmp_path / "z.tsv"},
        masks={roi: tmp_path / f"{roi}.nii.gz" for roi in rois},
        min_ncsnr=[0, 0.2],
    ).set_index(["roi", "min_ncsnr"])
    columns = ["n_voxels", "median_r", "median_ceiling", "share_significant"]
    expected = {
        ("cortex", 0): (4, 0.2, 0.4, 0.5),
        ("cortex", 0.2): (2, 0.4, 0.6, 1),
        ("early", 0): (2, 0.15, 0.35, 0.5),
        ("early", 0.2): (1, 0.2, 0.4, 1),
        ("none", 0): (0, np.nan, np.nan, np.nan),
    }
    for row, values in expected.items():
        np.testing.assert_allclose(summary.loc[row, columns].astype(float), values)


def test_table_of_subjects(tmp_path):
    write_summary_inputs(tmp_path)
    tabulate_encoding(
        tables={(s, f): tmp_path / "z.tsv" for s in ("subj01", "subj02") for f in ("z", "c")},
        masks={
            (s, roi): tmp_path / f"{roi}.nii.gz"
            for s in ("subj01", "subj02")
            for roi in ("cortex", "early")
        },
        output=tmp_path / "encoding.tsv",
        min_ncsnr=[0, 0.2],
    )
    table = load_table(tmp_path / "encoding.tsv")
    keys = ["subject", "feature", "roi", "min_ncsnr"]
    values = ["median_r", "median_ceiling", "n_voxels", "share_significant"]
    assert list(table) == keys + values
    assert len(table) == 2 * 2 * 2 * 2
    assert not table[keys].duplicated().any()


def test_summaries_need_neither_torch_nor_himalaya():
    code = "import sys, nsdldm.encoding.summary; "
    code += "sys.exit(bool({'torch', 'himalaya'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
