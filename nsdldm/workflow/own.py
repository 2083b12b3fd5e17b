"""Where the files of a dataset of one's own are; see docs/datasets.md. No heavy imports."""

from __future__ import annotations

from pathlib import Path

from nsdldm.nsd import layout
from nsdldm.support.errors import Finding
from nsdldm.workflow.datasets import FORMS
from nsdldm.workflow.laion import LaionRelease, list_computed
from nsdldm.workflow.release import Release
from nsdldm.workflow.workfolder import find_late

SURFACES = ("white", "pial", "inflated", "sulc")
REGISTERED = "sphere.reg"
SUFFIXES = (".npy", ".h5", ".hdf5")
# Of all subjects, made once.
SHARED = "results/release"


class OwnRelease(Release):
    """Files of a dataset of one's own, by the methods of `Release`."""

    def _list_roots(self):
        return self.settings["arrays"]["root"], {}, []

    def _describe(self):
        return {}

    def locate_table(self, name: str, subject: str | None = None) -> str:
        """A table of all subjects, or of one."""
        return self.place.where(f"{subject}/{name}.tsv" if subject else f"{name}.tsv")

    def locate_stimuli(self, subject: str = "{subject}") -> str:
        """Pictures of all images."""
        own = self.place.where("stimuli.hdf5")
        return own if self.place.has_file("stimuli.hdf5") else f"{SHARED}/stimuli.hdf5"

    def list_pictures(self) -> str:
        """The folder that these are made of, or the file that has them."""
        made = self.locate_stimuli().startswith(SHARED)
        return self.place.where("pictures") if made else self.locate_stimuli()

    def list_captions(self) -> list[str]:
        """Captions in COCO's form."""
        return [f"{SHARED}/captions.json"]

    def list_instances(self) -> list[str]:
        """None; objects are only known of COCO's images."""
        return []

    def find_listing(self, split: str, subject: str) -> list[str]:
        """The file that lists a division of the images, if there is one."""
        name = f"splits/{split}.json"
        return [self.place.where(name)] if self.place.has_file(name) else []

    def find_betas(self, subject: str, region: str) -> str:
        """The matrix of a region."""
        stem = f"{subject}/betas/{region}"
        names = [stem + suffix for suffix in SUFFIXES if self.place.has_file(stem + suffix)]
        return self.place.where(names[0] if names else f"{stem}.npy")

    def list_own(self, subject: str) -> list[str]:
        """Regions of the run that a subject has betas of."""
        regions = self.settings["matrices"]
        return [name for name in regions if Path(self.find_betas(subject, name)).is_file()]

    def locate_mask(self, region: str, subject: str = "{subject}") -> str:
        """The mask of a region."""
        return self.place.where(f"{subject}/masks/{region}.nii.gz")

    def list_masks(self, subject: str) -> list[str]:
        """Masks that a subject has of the regions of the run."""
        masks = [self.locate_mask(region, subject) for region in self.settings["rois"]]
        return [mask for mask in masks if Path(mask).is_file()]

    def locate_surface(self, hemi: str, name: str) -> str:
        """A FreeSurfer file of a hemisphere."""
        return self.place.where(f"{{subject}}/surf/{hemi}.{name}")

    def list_transforms(self) -> list[str]:
        """Coordinates of each hemisphere's three cortical depths, which are computed."""
        return list_computed(layout.LAYERS, "func-to-{}.mgz")

    def list_averages(self) -> list[str]:
        """Which native vertex each vertex of the average brain is nearest to."""
        return list_computed(["white-to-fsaverage.mgz"])

    def list_surfaces(self) -> list[str]:
        """Each hemisphere's FreeSurfer files, and the flat map that is computed."""
        own = [self.locate_surface(hemi, name) for hemi in layout.HEMISPHERES for name in SURFACES]
        return own + self.list_flats()

    def list_flats(self) -> list[str]:
        """Each hemisphere's flat map."""
        return list_computed(["full.flat.patch.3d"])

    def locate_reference(self) -> str:
        """A volume on the grid of the betas."""
        return self.locate_mask("cortex")

    def find_missing(self, others: list[str]) -> list[Finding]:
        """What the decoders of a run lack of the dataset."""
        findings, place = [], self.place
        if not place.exists():
            remedy = "Set arrays.root to the dataset's folder"
            return [Finding(f"arrays.root {place.root}", "a folder", place.describe(), remedy)]
        names = ["images.tsv", "captions.tsv"]
        names += [f"{subject}/trials.tsv" for subject in self.settings["subjects"]]
        for name in names:
            if not place.has_file(name):
                findings.append(self._miss(name, "a table"))
        if not (place.has_file("stimuli.hdf5") or place.has_folder("pictures")):
            findings.append(self._miss("pictures", "a folder of pictures, or stimuli.hdf5 beside"))
        wanted = dict.fromkeys(self.settings["decoding"]["targets"].values())
        for subject in self.settings["subjects"]:
            for region in wanted:
                path = self.find_betas(subject, region)
                if not Path(path).is_file():
                    name = f"{subject}/betas/{region}.npy"
                    findings.append(self._miss(name, "betas as .npy, .h5 or .hdf5"))
        return findings or find_late([*place.files, *others])

    def _miss(self, name, expected):
        remedy = "Write it as docs/datasets.md says"
        return Finding(self.place.where(name), expected, self.place.describe(name), remedy)


def open_release(settings: dict) -> Release:
    """Choose by the dataset where files are.

    Parameters
    ----------
    settings : dict
        All settings, as `nsdldm.workflow.loading.load_settings` returns them.

    Returns
    -------
    Release
    """
    return RELEASES[FORMS[settings["dataset"]]](settings)


RELEASES = {"nsd": Release, "laion": LaionRelease, "arrays": OwnRelease}
