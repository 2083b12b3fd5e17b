"""Write tiny files in the release's formats, byte by byte where a library would hide the format."""

import gzip
import json
import struct
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from scipy.io import savemat

GRID = (4, 5, 3)
# Of the release's volumes on this grid: axes R, A, S, the origin at the centre of the slab.
AFFINE = np.array([[1.8, 0, 0, -2.7], [0, 1.8, 0, -3.6], [0, 0, 1.8, -1.8], [0, 0, 0, 1]])
OCTAHEDRON = np.array(
    [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=np.float32
)
FACES = np.array(
    [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
)
STREAMS = "0 Unknown\n1 early\n2 midventral\n3 midlateral\n4 midparietal\n5 ventral\n"
RESPONSE_COLUMNS = [
    *("SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME", "ISOLD", "ISCORRECT", "RT"),
    *("CHANGEMIND", "MEMORYRECENT", "MEMORYFIRST", "ISOLDCURRENT", "ISCORRECTCURRENT"),
    *("TOTAL1", "TOTAL2", "BUTTON", "MISSINGDATA"),
]
HEMISPHERES = ("lh", "rh")
LAYERS = ("layerB1", "layerB2", "layerB3")


def nifti_bytes(data, slope=0.0):
    """The release's NIfTI header, field by field, and the data in Fortran order."""
    header = bytearray(352)
    codes = {"int16": (4, 16), "float32": (16, 32), "float64": (64, 64)}
    shape = list(data.shape) + [1] * (7 - data.ndim)
    struct.pack_into("<i", header, 0, 348)
    header[38:39] = b"r"
    struct.pack_into("<8h", header, 40, data.ndim, *shape)
    struct.pack_into("<2h", header, 70, *codes[data.dtype.name])
    struct.pack_into("<8f", header, 76, 0, 1.8, 1.8, 1.8, 4 / 3, 1, 1, 1)
    struct.pack_into("<3f", header, 108, 352, slope, 0)
    header[228:232] = b"none"
    struct.pack_into("<2h", header, 252, 0, 1)
    for axis in range(3):
        row = [0.0, 0.0, 0.0, -(data.shape[axis] - 1) / 2 * 1.8]
        row[axis] = 1.8
        struct.pack_into("<4f", header, 280 + 16 * axis, *row)
    header[344:348] = b"n+1\0"
    return bytes(header) + data.tobytes(order="F")


def write_nifti(path, data, slope=0.0):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    content = nifti_bytes(np.asarray(data), slope)
    Path(path).write_bytes(gzip.compress(content, 1) if str(path).endswith(".gz") else content)


def make_betas(seed, grid=GRID):
    """Random stored integers (X, Y, Z, 750) with an empty voxel and both limits of int16."""
    betas = np.random.default_rng(seed).integers(-900, 900, (*grid, 750)).astype("<i2")
    betas[0, 0, 0] = 0
    betas[1, 2, 1, 5], betas[3, 4, 2, 7] = 32767, -32768
    return betas


def write_betas(path, betas):
    """betas is (X, Y, Z, trials)."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        file.create_dataset("betas", data=betas.T, chunks=(betas.shape[-1], 1, 1, 1))


def make_atlas():
    """Labels 0 to 5 and -1 off the ribbon on GRID, float64 as in the release."""
    return np.random.default_rng(1).permutation(np.arange(60) % 7 - 1.0).reshape(GRID)


def write_mgh(path, data):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.MGHImage(np.asarray(data, "f4"), np.eye(4)), path)


def write_patch_bytes(path, vertices, coords, border):
    """The patch format, one struct after the other."""
    content = struct.pack(">2i", -1, len(vertices))
    for vertex, xyz, edge in zip(vertices, coords, border, strict=True):
        content += struct.pack(">i3f", -(vertex + 1) if edge else vertex + 1, *xyz)
    Path(path).write_bytes(content)


def write_stimuli(path, pictures, n_images):
    """pictures: dict of 0-based number to uint8 (425, 425, 3); the others stay black."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        shape = (n_images, 425, 425, 3)
        bricks = file.create_dataset("imgBrick", shape, "u1", chunks=(1, 425, 425, 3))
        for number, picture in pictures.items():
            bricks[number] = picture


def write_captions(path, captions):
    """captions: list of (COCO number, text)."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    annotations = [
        {"image_id": int(image), "id": number, "caption": text}
        for number, (image, text) in enumerate(captions)
    ]
    Path(path).write_text(json.dumps({"info": {}, "images": [], "annotations": annotations}))


def make_design(seed=0):
    """masterordering (30000,), subjectim (8, 10000), sharedix (1000,), all counting from 1."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.repeat(np.arange(1, 10_001), 3))
    numbers = rng.permutation(np.arange(1, 73_001))
    shared = np.sort(numbers[:1000])
    unique = numbers[1000:].reshape(8, 9000)
    return order, np.hstack([np.tile(shared, (8, 1)), unique]), shared


def write_design(path, order, images, shared):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    savemat(
        path,
        {
            "masterordering": order[None].astype(float),
            "subjectim": images.astype(np.int32),
            "sharedix": shared[None].astype(float),
        },
    )


def write_stim_info(path, order, images, shared):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    n = 73_000
    table = pd.DataFrame({"cocoId": 5 * np.arange(n) + 11})
    table["cocoSplit"] = np.where(np.arange(n) % 50, "train2017", "val2017")
    table["cropBox"] = "(0, 0, 0.1671875, 0.1671875)"
    table["loss"], table["nsdId"] = 0.1, np.arange(n)
    table["flagged"] = table["BOLD5000"] = False
    table["shared1000"] = np.isin(np.arange(1, n + 1), shared)
    columns = {}
    positions = np.argsort(order, kind="stable").reshape(-1, 3) + 1
    for subject in range(8):
        repeats = np.zeros((n, 3), dtype=int)
        repeats[images[subject] - 1] = positions
        columns[f"subject{subject + 1}"] = (repeats[:, 0] > 0).astype(int)
        for repeat in range(3):
            columns[f"subject{subject + 1}_rep{repeat}"] = repeats[:, repeat]
    table = pd.concat([table, pd.DataFrame(columns)], axis=1)
    table.to_csv(path)


def write_responses(path, order, images, subject, n_sessions):
    """All 19 columns; the last nine are not read and stay NaN."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    n = 750 * n_sessions
    table = pd.DataFrame(np.nan, index=range(n), columns=RESPONSE_COLUMNS)
    runs = np.repeat(np.arange(1, 13), [63, 62] * 6)
    table["SUBJECT"] = subject
    table["SESSION"] = np.repeat(np.arange(1, n_sessions + 1), 750)
    table["RUN"] = np.tile(runs, n_sessions)
    table["TRIAL"] = table.groupby(["SESSION", "RUN"]).cumcount() + 1
    table["10KID"] = order[:n]
    table["73KID"] = images[subject - 1, order[:n] - 1]
    table.to_csv(path, sep="\t", index=False, na_rep="NaN")


def write_shared(root):
    """What all subjects share, with captions and pictures of every image."""
    design = make_design()
    experiment, stimuli = root / "nsddata/experiments/nsd", root / "nsddata_stimuli/stimuli/nsd"
    write_design(experiment / "nsd_expdesign.mat", *design)
    write_stim_info(experiment / "nsd_stim_info_merged.csv", *design)
    write_stimuli(stimuli / "nsd_stimuli.hdf5", {}, 73_000)
    captions = [(5 * number + 11, f"picture {number}") for number in range(73_000)]
    write_captions(stimuli / "annotations/captions_train2017.json", captions[1::2])
    write_captions(stimuli / "annotations/captions_val2017.json", captions[::2])
    return design


def write_subject(root, design, number, n_sessions=2):
    """One subject's files with the releases's names."""
    subject = f"subj{number:02d}"
    data = root / "nsddata/ppdata" / subject
    write_responses(data / "behav/responses.tsv", design[0], design[1], number, n_sessions)
    write_nifti(data / "func1pt8mm/roi/streams.nii.gz", make_atlas())
    betas = root / "nsddata_betas/ppdata" / subject / "func1pt8mm/betas_fithrf_GLMdenoise_RR"
    for session in range(1, n_sessions + 1):
        write_betas(betas / f"betas_session{session:02d}.hdf5", make_betas(session))
    write_nifti(betas / "ncsnr.nii.gz", np.full(GRID, 0.4, "f4"))
    anatomy = root / "nsddata/freesurfer" / subject
    (anatomy / "label").mkdir(parents=True)
    (anatomy / "surf").mkdir(parents=True)
    (anatomy / "label/streams.mgz.ctab").write_text(STREAMS)
    for hemi in HEMISPHERES:
        write_hemisphere(anatomy / "surf", data / "transforms", hemi)


def write_hemisphere(surf, transforms, hemi):
    for name in ("white", "pial", "inflated"):
        nib.freesurfer.write_geometry(surf / f"{hemi}.{name}", OCTAHEDRON, FACES)
    nib.freesurfer.write_morph_data(surf / f"{hemi}.sulc", OCTAHEDRON[:, 0])
    patch = [0, 1, 2, 4], OCTAHEDRON[:4], [True, False, False, False]
    write_patch_bytes(surf / f"{hemi}.full.flat.patch.3d", *patch)
    for layer in LAYERS:
        path = transforms / f"{hemi}.func1pt8-to-{layer}.mgz"
        write_mgh(path, np.full((6, 1, 1, 3), 1.5))
    write_mgh(transforms / f"{hemi}.white-to-fsaverage.mgz", np.arange(1.0, 7).reshape(6, 1, 1))


def write_checked(folder, root, design):
    """Subject 1 with two sessions in a folder, and shared files in another, for check_release."""
    write_subject(folder, design, 1)
    data = folder / "nsddata/ppdata/subj01"
    betas = folder / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    anatomy = folder / "nsddata/freesurfer/subj01"
    stimuli = root / "nsddata_stimuli/stimuli/nsd"
    names = {name: name for name in ("white", "pial", "inflated", "sulc")}
    names["flat"] = "full.flat.patch.3d"
    return {
        "subject": "subj01",
        "responses": data / "behav/responses.tsv",
        "design": root / "nsddata/experiments/nsd/nsd_expdesign.mat",
        "stim_info": root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv",
        "stimuli": stimuli / "nsd_stimuli.hdf5",
        "captions": sorted((stimuli / "annotations").glob("*.json")),
        "betas": sorted(betas.glob("*.hdf5")),
        "atlases": {"streams": data / "func1pt8mm/roi/streams.nii.gz"},
        "tables": {"streams": anatomy / "label/streams.mgz.ctab"},
        "rois": {"cortex": ["streams:ribbon"], "early": ["streams:early", "streams:5"]},
        "transforms": {
            hemi: [data / f"transforms/{hemi}.func1pt8-to-{layer}.mgz" for layer in LAYERS]
            for hemi in HEMISPHERES
        },
        "surfaces": {
            hemi: {name: anatomy / f"surf/{hemi}.{file}" for name, file in names.items()}
            for hemi in HEMISPHERES
        },
        "sessions": [1, 2],
        "report": folder / "release.tsv",
        "ncsnr": betas / "ncsnr.nii.gz",
    }
