"""Fit one encoder from arrays: which voxels respond to what the features describe?

    python docs/examples/fit_encoder.py

Put your own arrays in place of the simulated ones: features of images, of any shape after the first
axis, and responses to these images averaged over trials and z-scored.
"""

import numpy as np

from nsdldm import ridge, stats

rng = np.random.default_rng(0)
features = rng.standard_normal((600, 80))  # images x dimensions
responses = rng.standard_normal((600, 500))  # images x voxels
responses[:, :100] += features @ rng.standard_normal((80, 100)) / 9  # these voxels respond
train = np.arange(600) < 450

# The kernel's mean diagonal is 1, so that penalties mean the same for all feature spaces.
features = features - features[train].mean(axis=0)
kernel = features @ features.T
kernel = (kernel / kernel.diagonal()[train].mean()).astype(np.float32)
Y_train, Y_test = responses[train].astype(np.float32), responses[~train]

ridge.set_device("auto")
predicted, alphas, cv_scores = ridge.fit_ridge(
    kernel[np.ix_(train, train)],
    kernel[np.ix_(~train, train)],
    Y_train,
    alphas=[0.01, 0.1, 1, 10, 100],
    folds=ridge.group_folds(np.flatnonzero(train), n_folds=5, seed=0),
    batches={"targets": 500, "alphas": 5},
)
r = stats.correlate(Y_test, predicted)
significant = stats.fdr(stats.p_values(r, len(Y_test)), 0.05)
print(f"{significant[:100].sum()} of the 100 voxels that respond are found, median r", end=" ")
print(f"{np.median(r[:100]):.2f}, and {significant[100:].sum()} of the 400 others")
