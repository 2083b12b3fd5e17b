"""Draw figures of pictures, of axes and of a brain in the folder of work, and print their digests.

matplotlib reads a matplotlibrc that lies there.
"""

import hashlib
import json
from pathlib import Path

import pytest
from reconstruction_files import METHODS, PSM, write_all
from test_plots_decoding import write_evaluation
from test_plots_fig6 import write_subject

from nsdldm.plots import cortex, fig3, fig5, fig6
from nsdldm.plots.pictures import Showing

# What users have in their matplotlibrc; each changed or ended figures once.
FILES = {
    "images": """
        image.origin: lower
        image.lut: 8
        image.aspect: auto
        image.interpolation: bilinear
        image.cmap: gray
    """,
    "dark": """
        figure.facecolor: black
        savefig.facecolor: black
        axes.facecolor: black
        axes.edgecolor: white
        text.color: white
        axes.labelcolor: white
        axes.titlecolor: white
        xtick.color: white
        ytick.color: white
        grid.color: white
        legend.facecolor: black
        legend.frameon: True
        axes.grid: True
        lines.color: white
        patch.edgecolor: white
        axes.prop_cycle: cycler("color", ["8dd3c7", "feffb3"])
    """,
    "saving": """
        savefig.bbox: tight
        savefig.dpi: 50
        savefig.pad_inches: 1
        savefig.transparent: True
        savefig.format: svg
        savefig.orientation: landscape
        figure.dpi: 50
        figure.figsize: 2, 2
        figure.autolayout: True
        pdf.fonttype: 3
        pdf.compression: 0
    """,
    "text": """
        text.usetex: True
        text.hinting: none
        text.antialiased: False
        font.family: serif
        font.size: 20
        font.weight: bold
        mathtext.fontset: cm
        axes.unicode_minus: False
        axes.titlelocation: left
        axes.titlesize: 30
        path.sketch: 5, 50, 2
        lines.linewidth: 6
        lines.markersize: 20
        errorbar.capsize: 9
        legend.fontsize: 20
        xtick.bottom: False
        xtick.direction: in
        ytick.right: True
        axes.spines.left: False
        axes.axisbelow: False
        axes.xmargin: 0.5
    """,
    "backend": """
        backend: TkAgg
        interactive: True
        toolbar: None
        figure.hooks: none.such:hook
        date.epoch: 0000-12-31
        timezone: Asia/Tokyo
    """,
}


def draw(folder):
    """Draw one figure of pictures, one of axes, and one of a brain.

    Returns
    -------
    dict of str
        Digest of each file by its name.
    """
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    files = write_all(inputs, subjects=("subj01",))
    summaries, tables = write_evaluation(inputs, ("subj01",), ("z", "true-zc"))
    subject = write_subject(inputs, reach=9)
    subject["maps"] = {"z": subject["maps"]["z"]}
    runs = {
        name: {method: files[name]["subj01", method] for method in METHODS[:2]}
        for name in ("reconstructions", "samples")
    }
    runs |= {"images": files["images"]["subj01"], "stimuli": files["stimuli"]}

    def outputs(name):
        return {suffix: folder / f"{name}.{suffix}" for suffix in ("png", "pdf", "tsv")}

    fig3.plot_fig3(
        **{"subject": "subj01", "showing": Showing(PSM, 2), "demo": True, "ranked_by": "z"},
        **runs | outputs("fig3"),
    )
    fig5.plot_fig5(summaries=summaries, tables=tables, demo=True, **outputs("fig5"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cortex, "SUPERSAMPLING", 1)  # for speed
        fig6.plot_fig6(**subject, demo=True, **outputs("fig6"))
    drawn = [path for path in folder.iterdir() if path.is_file() and path.name != "matplotlibrc"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in drawn}


if __name__ == "__main__":
    print(json.dumps(draw(Path.cwd())))
