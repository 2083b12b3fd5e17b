"""The results of a finished run, as arrays, tables and images: ``nsdldm.load``.

    import nsdldm

    subj01 = nsdldm.load("results", "subj01")
    subj01                                 # what there is
    subj01.responses("ventral").test       # averaged responses to the test images
    subj01.map("zc", "r")                  # a volume

Nothing is read before it is asked for. docs/results.md lists the files.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nsdldm.encoding.predictions import Predictions
from nsdldm.responses import ROWS, STANDARDS, Responses
from nsdldm.support.errors import Finding, InputError, reading
from nsdldm.support.files import REMAKE, load_array, load_image, load_table, open_hdf5
from nsdldm.support.listing import list_files

if TYPE_CHECKING:
    import nibabel as nib

VOLUME = ".nii.gz"


class RegionResponses(Responses):
    """Responses of a region, standardised; arrays are read when they are first used.

    Parameters
    ----------
    path : path
    form : str
        Such as ``zscored/averages``.

    Attributes
    ----------
    train, test : float32 arrays of shape (n_train, n_voxels) and (n_test, n_voxels)
        Voxels in C-order of the region's mask. For another block of a large matrix than all of it,
        see `read_train` and `read_test`.
    train_ids, test_ids : int arrays of shape (n_train,) and (n_test,)
        nsd_id of each row.
    ncsnr, ceiling : float arrays of shape (n_voxels,)
        Noise ceiling signal-to-noise ratio, and the highest possible correlation with the test
        responses.
    """

    @cached_property
    def train(self) -> np.ndarray:
        """Training responses, float32 of shape (n_train, n_voxels)."""
        return self.read_train()

    @cached_property
    def test(self) -> np.ndarray:
        """Averaged test responses, float32 of shape (n_test, n_voxels)."""
        return self.read_test()

    def __repr__(self):
        sizes = f"{len(self.train_ids)} train, {len(self.test_ids)} test, {self.n_voxels} voxels"
        return f"<{self.form} of {self.path}: {sizes}>"


class Subject:
    """What a run has found for a subject.

    Parameters
    ----------
    results : str or Path
        Folder of the results.
    subject : str
        Such as subj01.

    Attributes
    ----------
    folder : Path
        The subject's folder.
    subject : str

    Raises
    ------
    InputError
        There are no results of this subject.
    """

    def __init__(self, results: Path | str, subject: str) -> None:
        self.subject, self.folder = subject, Path(results) / str(subject)
        if not (self.folder / "images.tsv").is_file():
            there = [path.parent.name for path in list_files(results, "*/images.tsv")]
            found = f"results of {', '.join(there)}" if there else "none"
            expected = f"images.tsv, of results of {subject}"
            remedy = "Choose one of these" if there else "Run the workflow, or name its results"
            raise InputError(Finding(str(self.folder), expected, found, remedy))

    def __repr__(self):
        splits = self.images["split"].value_counts()
        counts = ", ".join(f"{n} {split}" for split, n in splits.items())
        lines = [f"{self.subject} in {self.folder.parent}: {len(self.images)} images ({counts})"]
        shown = {"regions": self.regions, "features": self.spaces, "maps": self.maps}
        for protocol in self.protocols:
            if "@" in protocol:
                shown.setdefault("cases", []).append(protocol)
                continue
            shown[protocol] = self._list(f"{protocol}/decoded", ".npy")
            methods = self._list(f"{protocol}/reconstructions", ".h5")
            shown[protocol] += [f"and pictures from {', '.join(methods)}"] if methods else []
        return "\n".join([*lines, *(f"  {name}: {_shorten(each)}" for name, each in shown.items())])

    def _list(self, folder, suffix):
        """Names of the files in a folder, without what they end with."""
        files = list_files(self.folder / folder, f"*{suffix}")
        return sorted(path.name.removesuffix(suffix) for path in files)

    def _find(self, folder, name, suffix):
        """Path of a file, which must be there."""
        path = self.folder / folder / f"{name}{suffix}"
        if not path.is_file():
            there = self._list(folder, suffix)
            found = f"only {_shorten(there)}" if there else "no such file"
            made = _make(f"{folder}/{name}{suffix}", self)
            remedy = f"Choose one of these, or m{made[1:]}" if there else made
            raise InputError(Finding(str(path), "a file of a finished run", found, remedy))
        return path

    @cached_property
    def images(self) -> pd.DataFrame:
        """A row per image, in the order of the features: nsd_id, split and number of trials."""
        return load_table(self._find("", "images", ".tsv"))

    @cached_property
    def trials(self) -> pd.DataFrame:
        """A row per trial: session, trial, nsd_id, repetition and split."""
        return load_table(self._find("", "trials", ".tsv"))

    @property
    def regions(self) -> list[str]:
        """Regions that have a mask."""
        return self._list("masks", VOLUME)

    @property
    def spaces(self) -> list[str]:
        """Feature spaces whose features are kept."""
        return self._list("features", ".npy")

    @property
    def maps(self) -> list[str]:
        """Encoders that have a map, as `map` and `scores` take them."""
        return self._list("encoding", VOLUME)

    @property
    def protocols(self) -> list[str]:
        """Protocols that features were decoded by; after an @, their case."""
        return sorted({path.parts[-3] for path in list_files(self.folder, "*/decoded/*.npy")})

    @cached_property
    def encoders(self) -> dict[str, str]:
        """Family of each model that predicts responses; ``a+b`` are joint models."""
        families = self._list("encoding/predictions", ".h5")
        opened = {name: Predictions(self._find_predictions(name)) for name in families}
        return {name: family for family, each in opened.items() for name in each.names}

    def _find_predictions(self, family):
        return self._find("encoding/predictions", family, ".h5")

    def responses(self, roi: str, form: str | None = None) -> RegionResponses:
        """Responses of a region that models are fitted to.

        Parameters
        ----------
        roi : str
            cortex, or a region that is decoded from.
        form : str, optional
            Such as ``zscored/averages``, ``zscored/trials`` and ``scaled/trials``
            (`nsdldm.responses`); by default the first of these that there is.

        Returns
        -------
        RegionResponses

        Raises
        ------
        InputError
            There are no responses of this region, or not in this form.
        """
        path = self._find("responses", roi, ".h5")
        forms = self._list_forms(path)
        if form and form not in forms:
            raise InputError(
                Finding(str(path), f"one of its forms, {', '.join(forms)}", form, "Choose one")
            )
        return RegionResponses(path, form or forms[0])

    def _list_forms(self, path):
        """Forms of responses that a file holds."""
        with reading(path, "responses", REMAKE), open_hdf5(path) as file:
            forms = [f"{standard}/{rows}" for standard in STANDARDS for rows in ROWS]
            return [form for form in forms if form in file]

    def features(self, name: str) -> np.ndarray:
        """Features of all images, in the order of `images`.

        Parameters
        ----------
        name : str
            z, c, zc or another one of `spaces`.

        Returns
        -------
        float32 array of shape (n_images, ...)
            Memory-mapped.

        Raises
        ------
        InputError
            They are not there.
        """
        return load_array(self._find("features", name, ".npy"))

    def mask(self, roi: str) -> nib.Nifti1Image:
        """Mask of a region.

        Parameters
        ----------
        roi : str
            One of `regions`.

        Returns
        -------
        nibabel.Nifti1Image
            uint8 of shape (X, Y, Z), on the grid of the betas.

        Raises
        ------
        InputError
            There is no such region.
        """
        return load_image(self._find("masks", roi, VOLUME))

    def scores(self, space: str) -> pd.DataFrame:
        """Scores of an encoder in every voxel.

        Parameters
        ----------
        space : str
            One of `maps`; ``z+zc-n060`` is a joint model.

        Returns
        -------
        DataFrame
            A row per voxel of the cortex, in C-order of its mask (for controls, of every n-th): i,
            j and k, then scores such as r, p, significant and ceiling.

        Raises
        ------
        InputError
            They are not there.
        """
        return load_table(self._find("encoding", space, ".tsv"))

    def map(self, space: str, column: str) -> nib.Nifti1Image:
        """One column of `scores` as a volume.

        Parameters
        ----------
        space : str
            One of `maps`.
        column : str
            Such as r.

        Returns
        -------
        nibabel.Nifti1Image
            float32 of shape (X, Y, Z), NaN outside the cortex.

        Raises
        ------
        InputError
            There is no such map or column.
        """
        path = self._find("encoding", space, VOLUME)
        with open(self._find("encoding", space, ".tsv"), encoding="utf-8") as file:
            columns = file.readline().split()[3:]  # without i, j and k
        if column not in columns:
            expected = f"one of its columns, {', '.join(columns)}"
            raise InputError(Finding(str(path), expected, column, "Choose one of these"))
        return load_image(path).slicer[..., columns.index(column)]

    def decoded(self, target: str, protocol: str = "corrected") -> np.ndarray:
        """Features decoded from the responses to the test images.

        Parameters
        ----------
        target : str
            Such as z and c.
        protocol : str
            One of `protocols`.

        Returns
        -------
        float32 array of shape (n_test, ...)
            Memory-mapped, in the order of the test images in `images`. A case with images of its
            own has these in ``cases/{case}/images.tsv``; hour-aligned, hour-tuned and others have
            those of hour.

        Raises
        ------
        InputError
            They are not there.
        """
        return load_array(self._find_decoded(target, protocol))

    def _find_decoded(self, target, protocol):
        """Path of what was decoded by a protocol."""
        if protocol not in self.protocols:
            expected = f"one of the protocols ({', '.join(self.protocols) or 'none was run'})"
            raise InputError(Finding("`protocol`", expected, repr(protocol), "Choose one of these"))
        return self._find(f"{protocol}/decoded", target, ".npy")

    def reconstructions(
        self, method: str, protocol: str = "corrected", rows: slice = slice(None)
    ) -> np.ndarray:
        """Reconstructions of the test images.

        Parameters
        ----------
        method : str
            Such as z, c and zc.
        protocol : str
            One of `protocols`.
        rows : slice
            Of the test images; all of them can be gigabytes.

        Returns
        -------
        uint8 array of shape (n_rows, n_samples, height, width, 3)
            RGB, in the order of the test images as `decoded` has them.

        Raises
        ------
        InputError
            They are not there, or `rows` is no slice with a positive step.
        """
        if not isinstance(rows, slice) or (rows.step is not None and rows.step < 1):
            remedy = "Read the rows that enclose them and index these"
            raise InputError(Finding("`rows`", "a slice of test images", repr(rows), remedy))
        path = self._find(f"{protocol}/reconstructions", method, ".h5")
        with reading(path, "reconstructions", REMAKE), open_hdf5(path) as file:
            return file["images"][rows]

    def predict_responses(self, features: np.ndarray, space: str = "zc") -> np.ndarray:
        """Predict the responses to other images from their features.

        Each voxel's regression is solved again with the penalty chosen in the run, which takes as
        long as a decomposition of the kernel: a second for hundreds of images, minutes for
        thousands.

        Parameters
        ----------
        features : float array of shape (n, ...)
            In the form of ``features(space)``, of images that need not be the run's.
        space : str
            A model of a single space in `encoders`, whose features are kept.

        Returns
        -------
        float32 array of shape (n, n_voxels)
            z-scored responses of the cortex, voxels in C-order of its mask; NaN where none was
            fitted.

        Raises
        ------
        InputError
            Files are missing, or the features have another shape.
        """
        from nsdldm.encoding.refits import predict_responses

        usable = [name for name in self.encoders if name in self.spaces]
        if space not in usable:
            expected = f"encoders from {space} alone, whose features are kept"
            where, remedy = str(self.folder / "encoding/predictions"), "Choose one of these"
            raise InputError(Finding(where, expected, f"those from {_shorten(usable)}", remedy))
        trained, family = self._find("features", space, ".npy"), self.encoders[space]
        return predict_responses(
            features=_read_numbers(features, "features"),
            space=space,
            trained=trained,
            images=self._find("", "images", ".tsv"),
            kernels=self._find("kernels", family, ".h5"),
            responses=self._find("responses", "cortex", ".h5"),
            predictions=self._find_predictions(family),
        )

    def decode(
        self,
        responses: np.ndarray,
        target: str,
        protocol: str = "corrected",
        roi: str | None = None,
    ) -> np.ndarray:
        """Decode features from other responses.

        If the run kept the weights of its decoders, they are used; otherwise the regressions are
        solved again with the penalties chosen in the run.

        Parameters
        ----------
        responses : float array of shape (n, n_voxels)
            Of the region that the target is decoded from, standardised as the protocol does:
            z-scored within their session (`nsdldm.responses.zscore_sessions`), or for takagi2023 by
            the mean and standard deviation of the training trials.
        target : str
            Such as z and c.
        protocol : str
            One of `protocols`, without a case.
        roi : str, optional
            That region; by default the one with this many voxels.

        Returns
        -------
        float32 array of shape (n, ...)
            In the form of ``features(target)``.

        Raises
        ------
        InputError
            Files are missing, or the responses have another shape.
        """
        from nsdldm.decoding.refits import decode_responses, find_form

        if "@" in protocol:
            expected, remedy = "a protocol without a case", f"Use {protocol.partition('@')[0]}"
            raise InputError(Finding("protocol", expected, protocol, remedy))
        decoded = self._find_decoded(target, protocol)
        values = _read_numbers(responses, "responses")
        weights = decoded.with_name(f"{target}_weights.npy")
        return decode_responses(
            values=values,
            protocol=protocol,
            responses=self._find_region(values, find_form(protocol), roi),
            images=self._find("", "images", ".tsv"),
            features=self._find("features", target, ".npy"),
            dimensions=self._find(f"{protocol}/decoded", target, ".tsv"),
            decoded=decoded,
            weights=weights if weights.is_file() else None,
        )

    def _find_region(self, values, form, roi):
        """Path of the responses that some values are in the form of."""
        paths = [self._find("responses", name, ".h5") for name in self._list("responses", ".h5")]
        usable = [Responses(path, form) for path in paths if form in self._list_forms(path)]
        if roi:
            decodable = {each.path.stem: each.path for each in usable}
            if roi not in decodable:
                expected = f"a region that is decoded from ({', '.join(decodable) or 'none'})"
                raise InputError(Finding("`roi`", expected, repr(roi), "Choose one of these"))
            return decodable[roi]
        fitting = [each.path for each in usable if each.n_voxels == values.shape[-1]]
        if len(fitting) != 1:
            sizes = ", ".join(f"{each.path.stem} {each.n_voxels}" for each in usable) or "none"
            expected = f"as many voxels as one of the regions ({sizes})"
            raise InputError(
                Finding("responses", expected, f"shape {values.shape}", "Name the region: roi=")
            )
        return fitting[0]


def _read_numbers(values, name):
    """An argument as an array with a row per image, which has no other than finite numbers."""
    array = np.asarray(values)
    numbers = array.dtype.kind in "fiu" and array.ndim > 1 and array.size > 0
    if not numbers or not np.isfinite(array).all():
        found = f"{array.dtype} of shape {array.shape}" + (", some not finite" if numbers else "")
        remedy = "Give an array; of responses, their .train or .test"
        raise InputError(Finding(f"`{name}`", "finite numbers, a row per image", found, remedy))
    return array


def _shorten(names):
    """A list of names of which only the first are shown."""
    shown = ", ".join(names[:12]) or "none"
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown


def _make(name, subject):
    """What to do for a file that is not there."""
    target = f"results/{subject.subject}/{name.lstrip('/')}"
    return f"Make it, in the folder of the run: snakemake --cores 2 -- {target}"
