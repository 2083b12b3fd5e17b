"""What BIDS asks for beside files of derivatives, and its way of writing names.

No version of BIDS defines outputs of models; suffixes and entities are those that nilearn and
LAION-fMRI use.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

from nsdldm import __version__
from nsdldm.exports.brains import AVERAGE
from nsdldm.support.files import replacing

# That bring values to surfaces and write them.
SOFTWARE = ("nibabel", "numpy", "scipy")


def name_brain(space: str, density: str) -> str:
    """Write the entities of a brain.

    Parameters
    ----------
    space : {"fsnative", "fsaverage"}
    density : str
        Of fsaverage, such as 164k.

    Returns
    -------
    str
        Such as space-fsaverage_den-164k.
    """
    return f"space-{space}" + (f"_den-{density}" if space == AVERAGE else "")


def write_json(path: Path | str, content: dict) -> None:
    """Write a dict as JSON that people can read."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def describe_derivatives(folder: Path | str, name: str) -> None:
    """Write ``dataset_description.json`` of a folder of derivatives.

    Parameters
    ----------
    folder : str or Path
    name : str
        Of what is in it.
    """
    software = {package: version(package) for package in SOFTWARE}
    content = {
        "Name": name,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "nsd-ldm", "Version": __version__, "Software": software}],
    }
    write_json(Path(folder) / "dataset_description.json", content)
