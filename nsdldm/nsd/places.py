"""Where a release is: a folder or a bucket. Standard library only, for the preflight."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from nsdldm.nsd.remote import fetched, find_version, has_objects, is_remote, list_folder
from nsdldm.support.listing import is_stray, list_files


class Folder:
    """A release on disk.

    Parameters
    ----------
    root : str or Path
    """

    def __init__(self, root):
        self.root = Path(root)
        # Files that were looked at.
        self.files = []

    def where(self, name: str) -> str:
        """Path of a file or folder of the release, as a string."""
        return str(self.root / name)

    def exists(self) -> bool:
        """Whether the release's folder exists."""
        return self.root.is_dir()

    def describe(self, name: str = "") -> str:
        """What is at a name, in words."""
        path = self.root / name
        if path.is_dir():
            return "a folder"
        if not path.exists():
            return "nothing"
        return "a file" if path.stat().st_size else "an empty file"

    def has_file(self, name: str) -> bool:
        """Whether a file is there and not empty."""
        path = self.root / name
        if not path.is_file():
            return False
        self.files.append(path)
        return path.stat().st_size > 0

    def has_folder(self, name: str) -> bool:
        """Whether a folder is there."""
        return (self.root / name).is_dir()

    def list_names(self, folder: str) -> list[str]:
        """Names of the files in a folder."""
        return [path.name for path in list_files(self.root / folder)]

    def open_copy(self, name: str) -> AbstractContextManager[Path]:
        """Context that yields a local path of a file."""
        return nullcontext(self.root / name)


class Bucket:
    """A release in a bucket; each folder is listed once, and one of its objects looked at.

    Parameters
    ----------
    root : str
        ``s3://bucket/folder``.
    storage : dict
        As `nsdldm.nsd.remote.connect` takes it.
    """

    def __init__(self, root, storage):
        self.root = str(root).rstrip("/")
        self.storage = storage
        # No local files; jobs make their copies later.
        self.files = []
        self._folders, self._readable = {}, set()

    @cached_property
    def _scratch(self):
        return TemporaryDirectory(prefix="nsdldm-")

    def _sizes(self, folder):
        if folder not in self._folders:
            self._folders[folder] = list_folder(self.where(folder), self.storage)
        return self._folders[folder]

    def _size(self, name):
        folder, _, base = name.rpartition("/")
        size = self._sizes(folder).get(base)
        if size is not None and folder not in self._readable:
            # Objects that can be listed need not be readable; permissions apply to whole folders at
            # least.
            find_version(self.where(name), self.storage)
            self._readable.add(folder)
        return size

    def where(self, name: str) -> str:
        """Address of an object or folder of the release."""
        return f"{self.root}/{name}"

    def exists(self) -> bool:
        """Whether the release's folder has anything."""
        return has_objects(self.root, self.storage)

    def describe(self, name: str = "") -> str:
        """What is at a name, in words."""
        size = self._size(name) if name else None
        return "nothing" if size is None else "an object" if size else "an empty object"

    def has_file(self, name: str) -> bool:
        """Whether an object is there and not empty."""
        return bool(self._size(name))

    def has_folder(self, name: str) -> bool:
        """Whether a folder has objects of its own."""
        return bool(self._sizes(name))

    def list_names(self, folder: str) -> list[str]:
        """Names of the objects in a folder."""
        return sorted(name for name in self._sizes(folder) if not is_stray(name))

    def open_copy(self, name: str) -> AbstractContextManager[Path]:
        """Context that yields a local copy of an object, removed afterwards."""
        return fetched(self.where(name), self._scratch.name, self.storage)


class Parts:
    """A release whose folders are in several places.

    Parameters
    ----------
    whole : Folder or Bucket or None
        Where everything else is; None if there is nothing else.
    parts : dict of str to (Folder or Bucket)
        Places that stand for folders of the release.
    """

    def __init__(self, whole, parts):
        self._whole, self._parts = whole, parts

    def _find(self, name):
        """The place of a file or folder, and its name there."""
        first, _, rest = name.partition("/")
        return (self._parts[first], rest) if first in self._parts else (self._whole, name)

    @property
    def _places(self):
        return [*filter(None, [self._whole]), *self._parts.values()]

    def list_absent(self) -> dict[str, Folder | Bucket]:
        """Places that have nothing, by the folder that they stand for; "" is all the rest."""
        named = {"": self._whole, **self._parts} if self._whole else self._parts
        return {part: place for part, place in named.items() if not place.exists()}

    @property
    def root(self) -> str:
        """All places, in words."""
        return ", ".join(str(place.root) for place in self._places)

    @property
    def files(self) -> list[Path]:
        """Local files that were looked at."""
        return [file for place in self._places for file in place.files]

    def where(self, name: str) -> str:
        """Path or address of a file or folder of the release."""
        place, rest = self._find(name)
        return place.where(rest)

    def exists(self) -> bool:
        """Whether all places have something."""
        return all(place.exists() for place in self._places)

    def describe(self, name: str = "") -> str:
        """What is at a name, in words; without one, at the first place that does not exist."""
        if name:
            place, rest = self._find(name)
            return place.describe(rest)
        absent = next(place for place in self._places if not place.exists())
        return f"{absent.describe()} at {absent.root}"

    def has_file(self, name: str) -> bool:
        """Whether a file is there and not empty."""
        place, rest = self._find(name)
        return place.has_file(rest)

    def has_folder(self, name: str) -> bool:
        """Whether a folder is there."""
        place, rest = self._find(name)
        return place.has_folder(rest)

    def list_names(self, folder: str) -> list[str]:
        """Names of the files in a folder."""
        place, rest = self._find(folder)
        return place.list_names(rest)

    def open_copy(self, name: str) -> AbstractContextManager[Path]:
        """Context that yields a local path of a file."""
        place, rest = self._find(name)
        return place.open_copy(rest)


def find_place(
    root: Path | str | None, storage: dict, roots: dict[str, Path | str] | None = None
) -> Folder | Bucket | Parts:
    """Choose how to access a release from its root.

    Parameters
    ----------
    root : str or Path or None
        A folder, or ``s3://bucket/folder``; None if `roots` has all of the release.
    storage : dict
        As `nsdldm.nsd.remote.connect` takes it; not read for a folder.
    roots : dict of str to (str or Path), optional
        What stands for a folder of the release, such as nsddata_betas, if it is not under the root.

    Returns
    -------
    Folder or Bucket or Parts
    """
    if roots:
        parts = {part: find_place(own, storage) for part, own in roots.items()}
        return Parts(find_place(root, storage) if root else None, parts)
    return Bucket(root, storage) if is_remote(root) else Folder(root)
