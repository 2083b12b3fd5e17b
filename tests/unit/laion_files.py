"""A small LAION-fMRI release of one subject and two sessions, written by hand."""

import io
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image

GRID, SUBJECT = (5, 6, 7), "sub-03"
AFFINE = np.diag([1.778, 1.778, 1.778, 1.0])
# Name, dataset, participant, whether shared, repeats; sub-03 is person 4.
IMAGES = (
    ("shared_12rep_LAION_cluster_7_i0.jpg", "LAION", "all", "shared", 12),
    ("shared_4rep_OOD_shape_red cup_1.png", "OOD", "all", "shared", 4),
    ("unique_LAION_initial_cluster_3_i0_p01.jpg", "LAION", "p01", "unique", 4),
    ("unique_LAION_initial_cluster_3_i0_p04.jpg", "LAION", "p04", "unique", 4),
    ("shared_4rep_OOD_gaudy_p01.jpg", "OOD", "all", "shared", 4),
    ("unique_THINGS+_apple1_p04.jpg", "THINGS+", "p04", "unique", 4),
)
# Rows of the images in the order of presentation; row 3 lacks one repeat.
SHOWN = {1: (0, 3, 1, 0, 5, 3, 1, 0, 5), 2: (3, 0, 5, 1, 4, 0, 5, 1, 4, 4, 4)}
COLUMNS = ("image_name", "dataset", "participant", "unique_or_shared", "n_reps")


def write_table(path, table):
    separator = "," if Path(path).suffix == ".csv" else "\t"
    pd.DataFrame(table).to_csv(path, sep=separator, index=False)
    return path


def write_metadata(folder, images=IMAGES):
    return write_table(folder / "metadata.csv", pd.DataFrame(images, columns=COLUMNS))


def write_trials(folder, session, **changes):
    names = [IMAGES[row][0] for row in SHOWN[session]]
    table = {
        "session": f"ses-{session:02d}",
        "run": [1 + n // 4 for n in range(len(names))],
        "beta_index": range(len(names)),
        "label": names,
    }
    return write_table(folder / f"ses-{session:02d}_trials.tsv", table | changes)


def write_volume(path, data, dtype=np.float32, affine=AFFINE):
    nib.save(nib.Nifti1Image(np.asarray(data, dtype), affine), path)
    return path


def make_betas(session):
    """Values that differ in every voxel and trial; one voxel NaN, one 0, one NaN once."""
    n_trials = len(SHOWN[session])
    betas = np.random.default_rng(session).normal(size=(*GRID, n_trials)).astype(np.float32)
    betas[1, 2, 3], betas[2, 2, 3], betas[3, 2, 3, 4] = np.nan, 0, np.nan
    if session == 2:
        betas[1, 2, 3] = 7
    return betas


def write_betas(folder, session):
    return write_volume(folder / f"ses-{session:02d}_statmap.nii.gz", make_betas(session))


def make_ceiling():
    """Percent, from 0 to 60."""
    return np.linspace(0, 60, np.prod(GRID)).reshape(GRID)


def encode(mode, colour):
    file = io.BytesIO()
    Image.new(mode, (1000, 1000), colour).save(file, "PNG" if mode == "RGBA" else "JPEG")
    return file.getvalue()


def make_pictures():
    """A plain colour for each image; the PNG is half transparent."""
    colours = [(250, 10, 10), (200, 0, 100, 128), (10, 250, 10), (10, 10, 250), (90,) * 3, (0,) * 3]
    return [encode("RGBA" if len(colour) == 4 else "RGB", colour) for colour in colours]


def write_stimuli(folder, pictures=None):
    path = folder / "stimuli.h5"
    pictures = make_pictures() if pictures is None else pictures
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("images", len(pictures), h5py.vlen_dtype(np.uint8))
        for row, content in enumerate(pictures):
            dataset[row] = np.frombuffer(content, np.uint8)
    return path


def write_captions(folder, names=None):
    """People's and a model's of shared images, a model's alone of one, people's of own ones."""
    rows = []
    for name, *_, shared, _ in IMAGES:
        if names is None or name in names:
            own = shared == "unique"
            rows += [] if own else [(name, 0, "ai", f"model: {name}", "", "", "m")]
            if own or "OOD" not in name:
                rows += [(name, n, "human", f"person {n}: {name}", "", "9", "") for n in (1, 2)]
    columns = ("image_name", "caption_idx", "source", "caption")
    columns += ("origin_collection", "participant_id", "ai_model")
    return write_table(folder / "captions.csv", pd.DataFrame(rows, columns=columns))


def write_surfaces(folder, n_vertices=6):
    coords = np.random.default_rng(0).normal(size=(n_vertices, 3))
    faces = np.array([[n, n + 1, n + 2] for n in range(n_vertices - 2)])
    paths = []
    for hemi in ("lh", "rh"):
        for name in ("white", "pial", "inflated", "sphere.reg"):
            paths.append(folder / f"{hemi}.{name}")
            nib.freesurfer.write_geometry(paths[-1], coords, faces)
        paths.append(folder / f"{hemi}.sulc")
        nib.freesurfer.write_morph_data(paths[-1], coords[:, 0])
    return paths
