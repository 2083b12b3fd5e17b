"""Layout of the LAION-fMRI release: path templates relative to its root, and its constants.

Standard library only, since the Snakefile imports it.
"""

SUBJECTS = ("sub-01", "sub-03", "sub-05", "sub-06", "sub-07")
SPLITS = (
    "tau",
    "ood",
    *(f"cluster_k5_{number}" for number in range(5)),
    *(f"random_{number}" for number in range(5)),
)
