# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A figure of your own
#
# From the results of a finished run to a figure that the workflow does not draw. The demo is enough
# (`make demo`); with your own data, change the two names below. Jupyter opens this file as a
# notebook if jupytext is installed, as it is in the environment of `make install`.

# %%
import matplotlib.pyplot as plt
import numpy as np

import nsdldm
from nsdldm import stats

results, subject = "../../results", "subj01"
run = nsdldm.load(results, subject)
print(run)

# %% [markdown]
# ## Responses and their ceiling
#
# `responses` gives what models are fitted to: z-scored responses, averaged over the trials of an
# image. The ceiling is the highest correlation that a perfect model could reach with the test
# responses, given how noisy they are.

# %%
cortex = run.responses("cortex")
test = (run.images["split"] == "test").to_numpy()
print(f"{len(cortex.train_ids)} training and {len(cortex.test_ids)} test images")
print(f"median ceiling of the cortex {np.nanmedian(cortex.ceiling):.2f}")

# %% [markdown]
# ## How much of the ceiling is reached?
#
# `scores` has a row per voxel of the cortex, and a mask says which of them are in a region. We keep
# voxels with some signal and divide r by the ceiling.

# %%
in_cortex = run.mask("cortex").get_fdata() > 0
regions = [name for name in run.regions if name != "cortex"]
inside = {name: run.mask(name).get_fdata()[in_cortex] > 0 for name in regions}
shares = {}
for space in ("z", "c", "zc"):
    scores = run.scores(space)
    reliable = scores["ceiling"] > 0.2
    share = scores["r"] / scores["ceiling"]
    shares[space] = [share[reliable & inside[name]].median() for name in regions]

# %% [markdown]
# ## Predicting responses to other images
#
# `predict_responses` takes features of any images, in the form in which the run stores them. Those
# of the test images give back the run's own predictions. Here is what the same encoders expect
# halfway between two pictures: the latents z are mixed, and the response follows.

# %%
z = run.features("z")
first, second = z[test][:2]
mixed = np.stack([first, (first + second) / 2, second])
expected = run.predict_responses(mixed, "z")
best = run.scores("z")["r"].nlargest(5).index
print("expected responses of the five voxels that z predicts best")
print(expected[:, best].round(2))

# %% [markdown]
# ## Decoding other responses
#
# `decode` takes responses of the region that a target is decoded from, z-scored as those of the
# run. Would z still be decoded from noisier responses, such as those of a shorter scan? We add
# noise to the test responses and compare what is decoded with the true z, dimension by dimension.
# All levels go into one call, since each call solves the regression again.

# %%
early = run.responses("early")
levels = np.array([0, 0.5, 1, 2, 4])  # standard deviations of a voxel
rng = np.random.default_rng(0)
noise = rng.standard_normal((len(levels), *early.test.shape))
noisy = early.test + levels[:, None, None] * noise
decoded = run.decode(noisy.reshape(-1, early.n_voxels), "z")
decoded = decoded.reshape(len(levels), test.sum(), -1)

true = z[test].reshape(test.sum(), -1)
r = [stats.correlate(true, each) for each in decoded]

# %% [markdown]
# ## The figure

# %%
figure, (bars, brain, line) = plt.subplots(
    1, 3, figsize=(11, 3.2), layout="constrained", width_ratios=[4, 3, 3]
)
place, names = np.arange(len(regions)), {"z": "z", "c": "c", "zc": "$z_c$"}
for column, (space, heights) in enumerate(shares.items()):
    bars.bar(place + 0.27 * (column - 1), heights, 0.25, label=names[space])
bars.set(xticks=place, xticklabels=regions, ylabel="median r / ceiling")
bars.set_title("Encoders by region")
bars.axhline(0, color="black", linewidth=0.8)
bars.legend(frameon=False)

volume = run.map("zc", "r").get_fdata()
above = np.nanmax(np.where(np.isnan(volume), -np.inf, volume), axis=2)
above[np.isneginf(above)] = np.nan
shown = brain.imshow(above.T, origin="lower", cmap="viridis", vmin=0)
brain.set_title("Encoder of $z_c$, seen from above")
brain.axis("off")
figure.colorbar(shown, ax=brain, label="largest r along the line of sight")

line.plot(levels, np.median(r, axis=1), marker="o")
line.set(ylim=0, xlabel="noise added (SD of a response)")
line.set(ylabel="median r of a dimension", title="z from early voxels")
for axis in (bars, line):
    axis.spines[["top", "right"]].set_visible(False)
figure.savefig("own_figure.png", dpi=150)
