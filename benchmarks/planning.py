"""Time a dry run of everything for the real release, on files of one byte under its names.

PYTHONPATH=. python benchmarks/planning.py --subjects 4 --sessions 40
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from nsdldm.nsd import layout
from nsdldm.workflow.loading import load_settings

PROJECT = Path(__file__).resolve().parents[1]
SETTINGS = load_settings(yaml.safe_load((PROJECT / "config.nsd.yaml").read_text()))
NSD = SETTINGS["nsd"]
VOLUMES = {"space": NSD["space"], "version": NSD["betas"]}


def write_release(root, subjects, n_sessions, rois):
    """Write files of one byte, but label tables, which are read, under the release's names."""
    names = [layout.DESIGN, layout.STIM_INFO, layout.STIMULI]
    names += [layout.CAPTIONS.format(split=split) for split in layout.COCO_SPLITS]
    parts = [part.split(":") for region in rois.values() for part in region]
    for subject in subjects:
        own = {"subject": subject, **VOLUMES}
        names.append(layout.RESPONSES.format(**own))
        names += [layout.ROI.format(atlas=atlas, **own) for atlas, _ in parts]
        for hemi in layout.HEMISPHERES:
            source = layout.TRANSFORM_SPACES[VOLUMES["space"]]
            for target in layout.LAYERS:
                place = {"hemi": hemi, "source": source, "target": target}
                names.append(layout.TRANSFORM.format(**place, **own))
            for template, name in layout.DRAWN_SURFACES:
                names.append(template.format(hemi=hemi, name=name, **own))
        for session in range(1, n_sessions + 1):
            names.append(layout.BETAS.format(session=session, suffix="hdf5", **own))
        for atlas in {atlas for atlas, _ in parts}:
            labels = [label for other, label in parts if other == atlas and label != "ribbon"]
            lines = [f"{n} {label}" for n, label in enumerate(["Unknown", *labels])]
            lines += [f"{label} number{label}" for label in labels if label.isdigit()]
            table = root / layout.LABEL_TABLE.format(atlas=atlas, **own)
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text("\n".join(lines) + "\n")
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def main():
    """Print the seconds of a dry run and the number of its jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--sessions", type=int, default=40)
    arguments = parser.parse_args()
    # Those with most sessions first.
    ranked = sorted(layout.SESSIONS, key=lambda subject: -layout.SESSIONS[subject])
    subjects = sorted(ranked[: arguments.subjects])
    n = {subject: min(arguments.sessions, layout.SESSIONS[subject]) for subject in subjects}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_release(folder / "nsd", subjects, max(n.values()), SETTINGS["rois"])
        changes = {
            "subjects": subjects,
            "nsd": {"root": str(folder / "nsd"), "sessions": "all"},
            # Whatever the model is, as many files are made with it.
            "model": {"path": str(PROJECT / "resources/demo_model"), "revision": None},
            "overrides": {subject: {"sessions": count} for subject, count in n.items()},
        }
        (folder / "changes.yaml").write_text(yaml.safe_dump(changes))
        command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile"), "--cores"]
        command += ["2", "--dry-run", "--directory", str(folder), "--configfile"]
        command += map(str, (PROJECT / "config.yaml", PROJECT / "config.nsd.yaml"))
        started = time.perf_counter()
        result = subprocess.run(
            [*command, str(folder / "changes.yaml")], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
    text = result.stdout + result.stderr
    if result.returncode:
        sys.exit(text[-3000:])
    jobs = int(re.search(r"\ntotal\s+(\d+)", text).group(1))
    print(f"{len(subjects)} subjects, {sum(n.values())} sessions: {jobs} jobs in {seconds:.1f} s")


if __name__ == "__main__":
    main()
