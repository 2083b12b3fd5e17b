"""Compute a user-defined feature space of the images one subject saw."""

from nsdldm.features.pictures import compute_features
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given = snakemake.input
    with logged(snakemake.log[0]):
        compute_features(
            space=snakemake.wildcards.space,
            **{key: given[key] for key in ("images", "stimuli", "captions")},
            **{key: value for key, value in snakemake.params.items() if "code" not in key},
            output=snakemake.output[0],
        )
