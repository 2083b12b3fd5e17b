"""Check that everything a run needs is there before its first job. Standard library only.

Imported by the Snakefile, so that one report names everything that is missing, for all subjects. It
looks at names and sizes and reads label tables; `nsdldm.nsd.check` looks inside the other files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nsdldm.nsd import layout
from nsdldm.nsd.labels import find_labels, is_named, parse_roi, read_label_table
from nsdldm.nsd.places import Parts, find_place
from nsdldm.support.errors import Finding, InputError
from nsdldm.workflow.arguments import name_keys
from nsdldm.workflow.workfolder import find_late

if TYPE_CHECKING:
    from nsdldm.nsd.places import Bucket, Folder, Parts

BUCKET = "s3://natural-scenes-dataset"
# What is missing if a subject has nothing in a space.
IN_SPACE = (layout.ROI, layout.TRANSFORM, layout.BETAS)


def preflight(
    config: dict,
    place: Folder | Bucket | Parts,
    subjects: Iterable[str],
    find_numbers: Callable,
    others: Iterable[Path | str] = (),
) -> list[Finding]:
    """List what is missing for a run on the release, and time stamps ahead of the clock.

    Parameters
    ----------
    config : dict
        The configuration, valid and complete; nsd, rois, min_ncsnr and overrides are read.
    place : nsdldm.nsd.places.Folder, Bucket or Parts
        Where the release is; folders in a bucket are listed.
    subjects : iterable of str
    find_numbers : callable
        Takes a subject and returns the sessions that the run uses, numbered from 1.
    others : iterable of str or Path
        Other local files whose time stamps matter.

    Returns
    -------
    list of Finding
        Empty if nothing is missing. A missing folder is one finding, as are many missing sessions,
        or a bucket that cannot be listed.
    """
    storage = {key: config["nsd"][key] for key in ("endpoint", "signed")}
    try:
        absent = _find_absent(place)
        if absent:
            return absent
        folder = config["nsd"]["captions"] or place.where(layout.ANNOTATIONS)
        captions = find_place(folder, storage)
        findings = _find_shared(place, captions) + _find_instances(config, captions)
        atlases = _list_atlases(config, findings)
        for subject in subjects:
            findings += _find_subject(config, place, subject, find_numbers(subject), atlases)
            findings += _find_sets(config, place, subject)
        findings += find_late([*place.files, *captions.files, *others])
    except InputError as error:
        # A bucket that denies access or cannot be reached; nothing else can be checked then.
        return name_keys(error.findings)
    return name_keys(findings)


def _find_absent(place):
    """A finding for the root, and for each of nsd.roots, that has nothing."""
    if isinstance(place, Parts):
        absent = place.list_absent()
    else:
        absent = {} if place.exists() else {"": place}
    findings = []
    for part, own in absent.items():
        key = f"nsd.roots.{part}" if part else "nsd.root"
        held = f"the files of {part}" if part else "nsddata, nsddata_betas and nsddata_stimuli"
        expected = f"the release's {part}" if part else "the release's folder"
        remedy = f"Set {key} to what holds {held}"
        findings.append(Finding(f"{key} {own.root}", expected, own.describe(), remedy))
    return findings


def _missing(place, template, **values):
    """A finding, as a list, if a file of the release is missing or empty."""
    name = template.format(**values)
    if place.has_file(name):
        return []
    remedy = f"Copy it from {BUCKET}/{name}"
    return [Finding(place.where(name), "a file", place.describe(name), remedy)]


def _find_shared(place, captions):
    """Findings about the files that all subjects share."""
    findings = []
    for template in (layout.DESIGN, layout.STIM_INFO, layout.STIMULI):
        findings += _missing(place, template)
    for split in layout.COCO_SPLITS:
        name = f"captions_{split}.json"
        if not captions.has_file(name):
            remedy = "Unpack annotations_trainval2017.zip of cocodataset.org and set nsd.captions"
            found = captions.describe(name)
            findings.append(Finding(captions.where(name), "COCO's captions", found, remedy))
    return findings


def _find_instances(config, captions):
    """Findings about COCO's objects, which divide the images by category."""
    findings = []
    for split in layout.COCO_SPLITS if config["generalisation"]["categories"] else ():
        name = f"instances_{split}.json"
        if not captions.has_file(name):
            remedy = "Unpack annotations_trainval2017.zip of cocodataset.org beside the captions, "
            remedy += "or set generalisation.categories to false"
            found = captions.describe(name)
            findings.append(Finding(captions.where(name), "COCO's objects", found, remedy))
    return findings


def _find_sets(config, place, subject):
    """Findings about the sessions of other test sets, and about other betas."""
    nsd, other = config["nsd"], config["generalisation"]["betas"]
    suffix = layout.SUFFIXES[nsd["format"]]
    values = {"subject": subject, "space": nsd["space"], "version": nsd["betas"], "suffix": suffix}
    wanted = []
    if "synthetic" in nsd["test_sets"]:
        wanted += [(template, {}) for template in layout.SYNTHETIC_FILES]
    if "imagery" in nsd["test_sets"]:
        wanted += [(layout.IMAGERY_BETAS, {})]
        if nsd["imagery_order"] == "by-condition":
            wanted.append((layout.IMAGERY_DESIGN, {}))
        wanted += [(layout.IMAGERY_BEHAVIOUR, {"run": run}) for run in layout.IMAGERY_RUNS]
        wanted += [(layout.IMAGERY_PAIRS, {"set": name}) for name in layout.IMAGERY_SETS]
        wanted += [
            (layout.IMAGERY_TARGETS, {"set": name, "name": target})
            for name, targets in layout.IMAGERY_NAMES.items()
            for target in targets
        ]
    if other:
        wanted.append((layout.BETAS, {"session": 1, "version": other}))
    found = (_missing(place, template, **values | own) for template, own in wanted)
    return [finding for findings in found for finding in findings]


def _list_atlases(config, findings):
    """The (label, region) pairs that the configured regions use from each atlas."""
    asked = {}
    for name, parts in config["rois"].items():
        for atlas, label in _catch(findings, parse_roi, name, parts) or []:
            asked.setdefault(atlas, []).append((label, name))
    return asked


def _find_subject(config, place, subject, numbers, atlases):
    """Findings about one subject; the contents of a missing folder are not listed."""
    nsd = config["nsd"]
    values = {"subject": subject, "space": nsd["space"], "version": nsd["betas"]}
    finders = {
        layout.RESPONSES: lambda: _missing(place, layout.RESPONSES, **values),
        layout.ROI: lambda: _find_atlases(place, values, atlases),
        layout.TRANSFORM: lambda: _find_transforms(place, values),
        layout.SURFACE: lambda: _find_surfaces(place, values, atlases),
        layout.BETAS: lambda: _find_betas(config, place, values, numbers),
    }
    folders = {template: template.rpartition("/")[0].format(**values) for template in finders}
    absent = [template for template in finders if not place.has_folder(folders[template])]
    if len(absent) == len(finders):
        where = f"{subject} in {place.root}"
        remedy = f"Copy its folders from {BUCKET}, or take {subject} out of subjects"
        return [Finding(where, f"folders such as {folders[absent[0]]}", "nothing", remedy)]
    findings = []
    if layout.BETAS in absent:
        kinds = _list_kinds(place, subject)
        findings += _wrong_kind(place, values, kinds)
        if kinds and nsd["space"] not in (space for space, _ in kinds):
            # Everything in a space is missing for one reason.
            finders = {key: find for key, find in finders.items() if key not in IN_SPACE}
        elif kinds:
            del finders[layout.BETAS]
    for template, find in finders.items():
        folder = folders[template]
        if template in absent:
            remedy = f"Copy it from {BUCKET}/{folder}"
            findings.append(Finding(place.where(folder), "a folder", "nothing", remedy))
        else:
            findings += find()
    return findings


def _list_kinds(place, subject):
    """Pairs of a space and a version of the betas that the release has of a subject."""
    return [
        (space, version)
        for space in layout.SPACES
        for version in layout.BETA_VERSIONS
        if place.has_folder(
            layout.BETAS_FOLDER.format(subject=subject, space=space, version=version)
        )
    ]


def _wrong_kind(place, values, kinds):
    """A finding, as a list, if betas are of other spaces or versions than requested."""
    if not kinds:
        return []
    space, version = values["space"], values["version"]
    folder = layout.BETAS_FOLDER.format(**values)
    versions = [known for where, known in kinds if where == space]
    there = dict.fromkeys(where for where, _ in kinds)
    key, asked, known = ("betas", version, versions) if versions else ("space", space, there)
    found = f"only {', '.join(known)}"
    remedy = f"Set nsd.{key} to what is there, or copy {folder} from {BUCKET}"
    expected = f"the {'version' if versions else 'space'} that nsd.{key} names, {asked}"
    where = place.where(layout.BETAS_FOLDER.split("/{space}")[0].format(**values))
    return [Finding(where, expected, found, remedy)]


def _catch(findings, function, *arguments):
    """Call a function, and add what it finds wrong with the input to `findings`."""
    try:
        return function(*arguments)
    except InputError as error:
        findings += error.findings
        return None


def _find_atlases(place, values, atlases):
    """Findings about the volumes of the configured regions' atlases."""
    findings = []
    for atlas in atlases:
        volume = layout.ROI.format(atlas=atlas, **values)
        if not place.has_file(volume):
            suffix = ".nii.gz"
            files = place.list_names(volume.rpartition("/")[0])
            known = [name.removesuffix(suffix) for name in files if name.endswith(suffix)]
            names = ", ".join(name for name in known if not name.startswith(("lh.", "rh.")))
            remedy = f"Copy it from {BUCKET}, or use another atlas in rois (there are: {names})"
            found = place.describe(volume)
            findings.append(Finding(place.where(volume), f"the atlas {atlas}", found, remedy))
    return findings


def find_table(place: Folder | Bucket, subject: str, atlas: str) -> str | None:
    """Find the table of an atlas' names: the subject's, or else the average brain's or a
    template's.

    Parameters
    ----------
    place : nsdldm.nsd.places.Folder or Bucket
    subject, atlas : str

    Returns
    -------
    str or None
        Its path below the release's root; None if there is none.
    """
    names = (name.format(subject=subject, atlas=atlas) for name in layout.LABEL_TABLES)
    return next(filter(place.has_file, names), None)


def find_sessions(place: Folder | Bucket, subject: str, nsd: dict) -> list[int]:
    """Find the sessions whose betas a release has.

    Parameters
    ----------
    place : nsdldm.nsd.places.Folder or Bucket
    subject : str
    nsd : dict
        Settings of the release; space, betas and format are read.

    Returns
    -------
    list of int
        From 1, ascending.

    Raises
    ------
    InputError
        A bucket cannot be read.
    """
    values = {"subject": subject, "space": nsd["space"], "version": nsd["betas"]}
    names = {
        number: layout.BETAS.format(session=number, suffix=layout.SUFFIXES[nsd["format"]], **values)
        for number in range(1, layout.SESSIONS[subject] + 1)
    }
    return [number for number, name in names.items() if place.has_file(name)]


def _find_labels(place, values, atlases):
    """Findings about labels missing from the tables; only names need a table."""
    findings = []
    for atlas, asked in atlases.items():
        if not place.has_file(layout.ROI.format(atlas=atlas, **values)):
            continue  # The atlas itself is missing, which has already been reported.
        table = find_table(place, values["subject"], atlas)
        if table is None:
            named = [label for label, _ in asked if is_named(label)]
            findings += _missing_table(place, values["subject"], atlas, named) if named else []
            continue
        known = _catch(findings, _read_table, place, table)
        for label, name in asked if known is not None else ():
            _catch(findings, find_labels, label, known, name, place.where(table))
    return findings


def _missing_table(place, subject, atlas, named):
    """A finding, as a list, about an atlas whose labels are used by name."""
    names = [name.format(subject=subject, atlas=atlas) for name in layout.LABEL_TABLES]
    expected = f"the names of the labels of {atlas}, there or in {names[1]}"
    remedy = f"Copy it from {BUCKET}/{names[0]}, or write numbers for {', '.join(named)} in rois"
    remedy += f" ({atlas}:all is every label)"
    return [Finding(place.where(names[0]), expected, place.describe(names[0]), remedy)]


def _read_table(place, name):
    """The labels of an atlas' table."""
    with place.open_copy(name) as path:
        return read_label_table(path)


def _find_transforms(place, values):
    """Findings about the transforms to three cortical depths and to the average brain."""
    source = layout.TRANSFORM_SPACES[values["space"]]
    pairs = [*((source, layer) for layer in layout.LAYERS), ("white", layout.AVERAGE)]
    findings = []
    for hemi in layout.HEMISPHERES:
        for start, target in pairs:
            names = {"hemi": hemi, "source": start, "target": target}
            findings += _missing(place, layout.TRANSFORM, **names, **values)
    return findings


def _find_surfaces(place, values, atlases):
    """Findings about the surfaces that maps are drawn on, and about labels."""
    findings = _find_labels(place, values, atlases)
    for hemi in layout.HEMISPHERES:
        for template, name in layout.DRAWN_SURFACES:
            findings += _missing(place, template, hemi=hemi, name=name, **values)
    return findings


def _find_betas(config, place, values, numbers):
    """Findings about the betas of a subject's sessions, and its ncsnr if used."""
    subject = values["subject"]
    available = layout.SESSIONS[subject]
    findings = []
    beyond = [number for number in numbers if number > available]
    if beyond:
        remedy = f"Lower nsd.sessions, or set overrides.{subject}.sessions"
        where, found = f"sessions of {subject}", f"session {beyond[0]} in the config"
        findings.append(Finding(where, f"1 to {available}", found, remedy))
    suffix = layout.SUFFIXES[config["nsd"]["format"]]
    names = [
        layout.BETAS.format(session=number, suffix=suffix, **values)
        for number in numbers
        if number <= available
    ]
    absent = [name for name in names if not place.has_file(name)]
    if not numbers:
        folder = place.where(layout.BETAS_FOLDER.format(**values))
        remedy = f"Copy some from {BUCKET}, or correct nsd.format"
        findings.append(Finding(folder, "the betas of at least one session", "none", remedy))
    if absent:
        findings.append(_missing_betas(place, absent, len(names), config["nsd"]["format"]))
    overrides = config["overrides"].get(subject, {})
    if overrides.get("min_ncsnr", config["min_ncsnr"]) is not None:
        findings += _missing(place, layout.NCSNR, **values)
    return findings


def _missing_betas(place, absent, n_wanted, kind):
    """One finding about the sessions of a subject without betas."""
    folder = absent[0].rpartition("/")[0]
    remedy = f"Copy them from {BUCKET}/{folder}"
    other = next(name for name in layout.SUFFIXES if name != kind)
    if place.has_file(absent[0].replace(layout.SUFFIXES[kind], layout.SUFFIXES[other])):
        remedy += f", or set nsd.format to {other}"
    else:
        remedy += ", or lower nsd.sessions"
    found = place.describe(absent[0])
    if len(absent) > 1:
        found += f", and so for {len(absent)} sessions of {n_wanted}"
    return Finding(place.where(absent[0]), "the betas of a session", found, remedy)
