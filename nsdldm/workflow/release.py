"""Where the files of a run's release are. No heavy imports, for the Snakefile."""

from __future__ import annotations

from typing import Any

from nsdldm.nsd import layout
from nsdldm.nsd.places import find_place
from nsdldm.nsd.remote import is_remote
from nsdldm.support.errors import Finding
from nsdldm.workflow.datasets import FORMS, SIMULATED
from nsdldm.workflow.preflight import find_sessions, find_table, preflight


class Release:
    """Paths or addresses of a release's files. Those of a subject contain ``{subject}``.

    Parameters
    ----------
    settings : dict
        All settings, as `nsdldm.workflow.loading.load_settings` returns them.
    """

    def __init__(self, settings):
        self.settings, self.nsd = settings, settings["nsd"]
        self.form = FORMS[settings["dataset"]]
        # What the experiment is called in names of files.
        self.task = "nsdcore" if self.form == "nsd" else "images"
        self.simulated = settings["dataset"] in SIMULATED
        # How buckets are read, if that is needed.
        self.storage = {key: self.nsd[key] for key in ("endpoint", "signed")}
        root, roots, others = ("results/demo", {}, []) if self.simulated else self._list_roots()
        self.remote = any(map(is_remote, [root, *roots.values(), *others]))
        self.place = find_place(root, self.storage, roots)
        # What is recorded about it among the results.
        self.source = {"dataset": settings["dataset"], "root": str(self.place.root)}
        self.source |= self._describe()
        # Listing a bucket takes time.
        self._sessions, self._tables = {}, {}

    def _list_roots(self):
        """Where the release is, and its parts, and what it is used with."""
        return self.nsd["root"], self.nsd["roots"], [self.nsd["captions"]]

    def _describe(self):
        """Which of a release's versions is used."""
        return {key: self.nsd[key] for key in ("space", "betas")}

    def find_missing(self, others: list[str]) -> list[Finding]:
        """What a run lacks of the release, and time stamps of these and other files ahead of the
        clock."""
        return preflight(
            self.settings, self.place, self.settings["subjects"], self.list_sessions, others
        )

    def locate(self, template: str, **values: Any) -> str:
        """Path or address of a file, from its template in `nsdldm.nsd.layout`."""
        known = {"subject": "{subject}", "space": self.nsd["space"], "version": self.nsd["betas"]}
        return self.place.where(template.format(**known | values))

    def locate_stimuli(self, subject: str = "{subject}") -> str:
        """Pictures that a subject saw: the release's file, or their copies from a bucket."""
        pictures = self.locate(layout.STIMULI)
        return f"results/{subject}/stimuli.hdf5" if is_remote(pictures) else pictures

    def list_captions(self) -> list[str]:
        """COCO's two caption files."""
        return self._list_annotations("captions")

    def list_instances(self) -> list[str]:
        """COCO's two files of objects, if they are there."""
        wanted = self.settings["generalisation"]["categories"]
        return self._list_annotations("instances") if wanted else []

    def find_listing(self, split: str, subject: str) -> list[str]:
        """The file that lists a division of the images, if it is not made here."""
        return []

    def _list_annotations(self, kind):
        folder = self.nsd["captions"] or self.locate(layout.ANNOTATIONS)
        return [f"{folder}/{kind}_{split}.json" for split in layout.COCO_SPLITS]

    def locate_session(self, session: str) -> str:
        """The betas of another test set's session."""
        templates = {"synthetic": layout.SYNTHETIC_BETAS, "imagery": layout.IMAGERY_BETAS}
        return self.locate(templates[session], suffix=layout.SUFFIXES[self.nsd["format"]])

    def list_imagery_targets(self) -> list[str]:
        """Pictures of the targets of NSD-Imagery."""
        return [
            self.locate(layout.IMAGERY_TARGETS, set=name, name=target)
            for name, targets in layout.IMAGERY_NAMES.items()
            for target in targets
        ]

    def list_sessions(self, subject: str) -> list[int]:
        """Session numbers of a subject that the run uses."""
        if subject not in self._sessions:
            own = self.settings["overrides"].get(subject, {})
            asked = own.get("sessions", self.nsd["sessions"])
            known = layout.SESSIONS[subject]
            if self.simulated:
                known = self.settings["demo"]["sessions"]
                asked = "all" if asked == "available" else asked
            elif asked == "available":
                asked = find_sessions(self.place, subject, self.nsd)
            self._sessions[subject] = layout.resolve_sessions(asked, known)
        return self._sessions[subject]

    def list_betas(self, subject: str, version: str | None = None) -> list[str]:
        """The betas of these, one file per session, of the run's version or another one."""
        values = {"subject": subject, "suffix": layout.SUFFIXES[self.nsd["format"]]}
        values |= {"version": version} if version else {}
        return [
            self.locate(layout.BETAS, session=session, **values)
            for session in self.list_sessions(subject)
        ]

    def list_simulated_betas(self, version: str | None = None) -> list[str]:
        """Betas that the demo writes for a subject, whatever sessions the run uses."""
        numbers = range(1, self.settings["demo"]["sessions"] + 1)
        values = {"suffix": "hdf5"} | ({"version": version} if version else {})
        return [self.locate(layout.BETAS, session=number, **values) for number in numbers]

    def list_atlases(self, *rois: str) -> list[str]:
        """The atlases that regions need."""
        parts = [part for roi in rois for part in self.settings["rois"][roi]]
        return sorted({part.split(":")[0] for part in parts})

    def list_volumes(self, *rois: str) -> list[str]:
        """Their volumes."""
        return [self.locate(layout.ROI, atlas=atlas) for atlas in self.list_atlases(*rois)]

    def list_tables(self, subject: str, *rois: str) -> dict[str, str]:
        """Their label tables, by atlas, as far as the release has them."""
        names = {atlas: self._find_table(subject, atlas) for atlas in self.list_atlases(*rois)}
        return {atlas: self.locate(name) for atlas, name in names.items() if name}

    def _find_table(self, subject, atlas):
        if self.simulated:
            return layout.LABEL_TABLE.format(subject=subject, atlas=atlas)
        if (subject, atlas) not in self._tables:
            self._tables[subject, atlas] = find_table(self.place, subject, atlas)
        return self._tables[subject, atlas]

    def list_transforms(self) -> list[str]:
        """Coordinates of each hemisphere's three cortical depths in the functional volume."""
        space = layout.TRANSFORM_SPACES[self.nsd["space"]]
        return [
            self.locate(layout.TRANSFORM, hemi=hemi, source=space, target=layer)
            for hemi in layout.HEMISPHERES
            for layer in layout.LAYERS
        ]

    def list_averages(self) -> list[str]:
        """Which native vertex each vertex of the average brain corresponds to, by hemisphere."""
        return [
            self.locate(layout.TRANSFORM, hemi=hemi, source="white", target=layout.AVERAGE)
            for hemi in layout.HEMISPHERES
        ]

    def list_surfaces(self) -> list[str]:
        """Each hemisphere's FreeSurfer files."""
        return [
            self.locate(template, hemi=hemi, name=name)
            for hemi in layout.HEMISPHERES
            for template, name in layout.DRAWN_SURFACES
        ]
