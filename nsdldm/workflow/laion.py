"""Where the files of LAION-fMRI are; see docs/datasets.md. No heavy imports, for the Snakefile."""

from __future__ import annotations

from nsdldm.demo.laion_files import LACKING, REGIONS
from nsdldm.laion import layout
from nsdldm.nsd.layout import HEMISPHERES, LAYERS, resolve_sessions
from nsdldm.support.errors import Finding
from nsdldm.workflow.release import Release
from nsdldm.workflow.workfolder import find_late

CEILING = layout.CEILING.replace("{repeats}", "Allrep")
SHARED = (layout.METADATA, layout.CAPTIONS, layout.STIMULI)
BUCKET = "s3://laion-fmri"


class LaionRelease(Release):
    """Files of LAION-fMRI, by the methods of `Release`."""

    def _list_roots(self):
        own = self.settings["laion"]
        roots = {"stimuli": own["stimuli"]} if own["stimuli"] else {}
        return own["root"], roots, []

    def _describe(self):
        return {}

    def locate(self, template: str, **values: object) -> str:
        """Path or address of a file, from its template in `nsdldm.laion.layout`."""
        return self.place.where(template.format(**{"subject": "{subject}"} | values))

    def locate_stimuli(self, subject: str = "{subject}") -> str:
        """Pictures that a subject saw, which are decoded once."""
        return f"results/{subject}/stimuli.hdf5"

    def list_captions(self) -> list[str]:
        """Captions in COCO's form."""
        return ["results/release/captions.json"]

    def list_instances(self) -> list[str]:
        """None; objects are only known of COCO's images."""
        return []

    def find_listing(self, split: str, subject: str) -> list[str]:
        """The file of a division that comes with the release."""
        if split not in layout.SPLITS:
            return []
        own = self.settings["laion"]
        folder = "results/demo/splits" if self.simulated else own["splits"]
        pool = layout.SHARED_POOL if own["pool"] == "shared" else subject
        return [f"{folder}/{layout.SPLIT.format(pool=pool, name=split)}"]

    def list_sessions(self, subject: str) -> list[int]:
        """Session numbers of a subject that the run uses."""
        own = self.settings["overrides"].get(subject, {})
        known = self.settings["demo"]["sessions"] if self.simulated else layout.SESSIONS
        asked = own.get("sessions", self.settings["laion"]["sessions"])
        if asked == "available":
            betas = {
                n: layout.BETAS.format(subject=subject, session=n) for n in range(1, known + 1)
            }
            return [n for n, name in betas.items() if self.simulated or self.place.has_file(name)]
        return resolve_sessions(asked, known)

    def list_of_sessions(self, template: str, subject: str) -> list[str]:
        """A file of each of them."""
        return [
            self.locate(template, subject=subject, session=number)
            for number in self.list_sessions(subject)
        ]

    def locate_reference(self) -> str:
        """A volume on the grid of the betas: the noise ceiling."""
        return self.locate(CEILING)

    def list_labels(self, subject: str, category: str) -> list[str]:
        """Labels of a category that a subject has masks of."""
        if self.simulated:
            lacking = {*LACKING.values()}
            return [name for name in REGIONS.get(category, ()) if name not in lacking]
        folder = layout.ROIS.format(subject=subject, category=category)
        start, end = (
            layout.ROI.format(subject=subject, category=category, label="{label}")
            .removeprefix(f"{folder}/")
            .split("{label}")
        )
        names = self.place.list_names(folder)
        return [n[len(start) : -len(end)] for n in names if n.startswith(start) and n.endswith(end)]

    def list_masks(self, subject: str) -> dict[str, str]:
        """Masks that the regions of the run are made of, by ``category:label``."""
        parts = [part for parts in self.settings["rois"].values() for part in parts]
        masks = {}
        for part in parts:
            category, label = part.split(":")
            if category == layout.ANATOMY:
                continue
            every = label == layout.EVERY
            for name in self.list_labels(subject, category) if every else [label]:
                masks[f"{category}:{name}"] = self.locate(
                    layout.ROI, subject=subject, category=category, label=name
                )
        return masks

    def locate_surface(self, hemi: str, name: str) -> str:
        """A FreeSurfer file of a hemisphere."""
        return self.locate(layout.SURFACE, hemi=hemi, name=name)

    def list_transforms(self) -> list[str]:
        """Coordinates of each hemisphere's three cortical depths, which are computed."""
        return list_computed(LAYERS, "func-to-{}.mgz")

    def list_averages(self) -> list[str]:
        """Which native vertex each vertex of the average brain is nearest to."""
        return list_computed(["white-to-fsaverage.mgz"])

    def list_surfaces(self) -> list[str]:
        """Each hemisphere's FreeSurfer files, and the flat map that is computed."""
        own = [self.locate_surface(hemi, n) for hemi in HEMISPHERES for n in layout.SURFACES]
        return own + self.list_flats()

    def list_flats(self) -> list[str]:
        """Each hemisphere's flat map."""
        return list_computed(["full.flat.patch.3d"])

    def find_missing(self, others: list[str]) -> list[Finding]:
        """What a run lacks of the release."""
        place = self.place
        if not place.exists():
            remedy = "Set laion.root to what holds derivatives and stimuli"
            where = f"laion.root {place.root}"
            return [Finding(where, "the release's folder", place.describe(), remedy)]
        findings = [found for name in SHARED for found in self._miss(name)]
        for subject in self.settings["subjects"]:
            findings += self._find_subject(subject)
        return findings or find_late([*place.files, *others])

    def _find_subject(self, subject):
        """Findings about one subject."""
        names = [CEILING.format(subject=subject)]
        for number in self.list_sessions(subject):
            for template in (layout.TRIALS, layout.BETAS):
                names.append(template.format(subject=subject, session=number))
        for hemi in HEMISPHERES:
            for name in (*layout.SURFACES, layout.REGISTERED):
                names.append(layout.SURFACE.format(subject=subject, hemi=hemi, name=name))
        findings = [found for name in names for found in self._miss(name)]
        for part in self.list_masks(subject):
            category, label = part.split(":")
            known = self.list_labels(subject, category)
            if label not in known:
                where = self.place.where(layout.ROIS.format(subject=subject, category=category))
                found = ", ".join(known) or "no masks with res-1pt8"
                remedy = "Use one of these in rois, or copy what is missing from " + BUCKET
                findings.append(Finding(where, f"a mask of {label}", found, remedy))
        return findings

    def _miss(self, name):
        """A finding, as a list, if a file is missing or empty."""
        if self.place.has_file(name):
            return []
        remedy = f"Copy it from {BUCKET}/{name}"
        if name == layout.STIMULI:
            remedy = "Sign the agreement for the pictures, and put the file there"
        return [Finding(self.place.where(name), "a file", self.place.describe(name), remedy)]


def list_computed(names: list[str] | tuple[str, ...], template: str = "{}") -> list[str]:
    """Name files of both hemispheres that are computed from surfaces.

    Parameters
    ----------
    names : sequence of str
    template : str
        With braces for a name.

    Returns
    -------
    list of str
        The left hemisphere's first.
    """
    return [
        f"results/{{subject}}/surfaces/{hemi}.{template.format(name)}"
        for hemi in HEMISPHERES
        for name in names
    ]
