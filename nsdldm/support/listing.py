"""List the files of a folder, without stray system files. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# Files that macOS and Windows put into folders; hidden files (._x, .DS_Store, .nfs0001) are never
# ours.
STRAYS = {"Icon\r", "Icon", "__MACOSX", "Thumbs.db", "ehthumbs.db", "desktop.ini"}
MODEL_FILES = (".json", ".txt", ".safetensors")


def is_stray(name: str) -> bool:
    """Whether a file or folder with this name is a stray.

    Parameters
    ----------
    name : str
        Last part of a path.

    Returns
    -------
    bool
    """
    return name.startswith(".") or name in STRAYS


def list_files(folder: Path | str, pattern: str = "*") -> list[Path]:
    """List a folder's files, except strays and anything in folders with such names.

    Parameters
    ----------
    folder : str or Path
        Need not exist.
    pattern : str
        As `pathlib.Path.glob` takes it; ``**/*`` for all files below the folder.

    Returns
    -------
    list of Path
        Sorted.
    """
    folder = Path(folder)
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(map(is_stray, path.relative_to(folder).parts)) and path.is_file()
    )


def list_model_files(model: Path | str, parts: Iterable[str]) -> list[Path]:
    """List the files that identify a model.

    Parameters
    ----------
    model : str or Path
        A folder in the layout of diffusers, or a hub id, which has no files.
    parts : iterable of str
        Folders of the model, in the order of the result.

    Returns
    -------
    list of Path
    """
    files = [path for part in parts for path in list_files(Path(model) / part)]
    return [path for path in files if path.suffix in MODEL_FILES]


def list_weights(path: str | None) -> list[str]:
    """List the weights at a path, if it is local.

    Parameters
    ----------
    path : str or None
        A file, a folder of a model or of its parts, a hub id or an address.

    Returns
    -------
    list of str
    """
    path = Path(path or "-")
    if path.is_file():
        return [str(path)]
    patterns = ("*.safetensors", "*/model.safetensors")
    return [str(file) for pattern in patterns for file in list_files(path, pattern)]
