"""Write the files of a few reconstructions, whose colours tell image, method and sample."""

import json

import h5py
import numpy as np
import pandas as pd

from nsdldm.diffusion.pictures import ATTRIBUTES

NUMBERS = [7, 3, 11, 5, 2, 13, 0, 9]  # test images, in file order
TRAIN = 4
COCO = {number: 100 + number for number in [*NUMBERS, TRAIN]}
METHODS = ("z", "z-coarse", "c", "zc", "true-zc")
N_SAMPLES = {method: 1 if method == "z-coarse" else 3 for method in METHODS}
PSM = "psm:demo-clip:embedding"
SECOND = "demo-judge:right"
SUBJECTS = ("subj01", "subj02")
SIDE = 24


def colour(subject, method, number, sample):
    """Colour of a reconstruction, far enough from every other."""
    red = 16 * number + 8 * SUBJECTS.index(subject)
    return np.array([red, 50 * METHODS.index(method), 80 * sample], np.uint8)


def seen_colour(number):
    return np.array([255, 16 * number, 255], np.uint8)


def score(subject, method, number, sample):
    """Value of `PSM`; image 13 is the best, image 0 the worst, of both subjects."""
    best = (number + METHODS.index(method)) % N_SAMPLES[method]
    value = 0.1 + 0.05 * number + 0.02 * METHODS.index(method)
    return value - 0.01 * ((sample - best) % N_SAMPLES[method])


def best_sample(method, number):
    return (number + METHODS.index(method)) % N_SAMPLES[method]


def write_stimuli(path):
    with h5py.File(path, "w") as file:
        shape = (max(COCO) + 1, 425, 425, 3)
        chunks = (1, 425, 425, 3)
        bricks = file.create_dataset("imgBrick", shape, np.uint8, chunks=chunks, compression=1)
        for number in NUMBERS:
            # Whole pictures: h5py broadcasts pixel by pixel.
            bricks[number] = np.tile(seen_colour(number), (425, 425, 1))


def write_captions(path, texts):
    pairs = [(COCO[number], text) for number in NUMBERS for text in texts(number)]
    annotations = [{"image_id": image, "caption": text} for image, text in pairs]
    path.write_text(json.dumps({"annotations": annotations}))


def write_images(path, numbers):
    table = pd.DataFrame({"nsd_id": [TRAIN, *numbers]})
    table["coco_id"] = table["nsd_id"].map(COCO)
    table["coco_split"], table["n_trials"] = "train2017", 3
    table["split"] = ["train", *["test"] * len(numbers)]
    table.to_csv(path, sep="\t", index=False)


def write_method(folder, subject, method, numbers):
    """Pictures, scores of samples and scores of images of one method."""
    n = N_SAMPLES[method]
    with h5py.File(folder / f"{subject}_{method}.h5", "w") as file:
        pictures = np.empty((len(numbers), n, SIDE, SIDE, 3), np.uint8)
        for row, number in enumerate(numbers):
            for sample in range(n):
                pictures[row, sample] = colour(subject, method, number, sample)
        file["images"], file["nsd_id"] = pictures, np.array(numbers, np.int64)
        file.attrs.update(dict.fromkeys(ATTRIBUTES, "made up"))
    rows = [
        (number, sample, metric, value)
        for number in numbers
        for sample in range(n)
        for metric, value in (
            (PSM, score(subject, method, number, sample)),
            (SECOND, sample % 2),
        )
    ]
    columns = ["nsd_id", "sample", "metric", "value"]
    save(folder / f"{subject}_{method}_samples.tsv", pd.DataFrame(rows, columns=columns))
    rows = [(number, "ssim", number / 20) for number in numbers]
    columns = ["nsd_id", "metric", "value"]
    save(folder / f"{subject}_{method}.tsv", pd.DataFrame(rows, columns=columns))


def save(path, table):
    table.to_csv(path, sep="\t", index=False, na_rep="nan")


def write_all(folder, subjects=SUBJECTS, numbers=None, texts=lambda number: [f"thing {number}"]):
    """Everything; gives the arguments that figures and the gallery share."""
    numbers = numbers or dict.fromkeys(subjects, NUMBERS)
    write_stimuli(folder / "stimuli.hdf5")
    write_captions(folder / "captions.json", texts)
    for subject in subjects:
        write_images(folder / f"{subject}_images.tsv", numbers[subject])
        for method in METHODS:
            write_method(folder, subject, method, numbers[subject])
    keys = [(subject, method) for subject in subjects for method in METHODS]
    return {
        "stimuli": folder / "stimuli.hdf5",
        "captions": [folder / "captions.json"],
        "images": {subject: folder / f"{subject}_images.tsv" for subject in subjects},
        "reconstructions": {key: folder / f"{key[0]}_{key[1]}.h5" for key in keys},
        "samples": {key: folder / f"{key[0]}_{key[1]}_samples.tsv" for key in keys},
        "tables": {key: folder / f"{key[0]}_{key[1]}.tsv" for key in keys},
    }
