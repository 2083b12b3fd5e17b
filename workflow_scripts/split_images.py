"""Divide one subject's images into training and test images, by the name of a split."""

from nsdldm.splits import SplitSettings, split_images
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    with logged(snakemake.log[0]):
        split_images(
            name=snakemake.wildcards.case,
            **{key: given[key] for key in ("trials", "images")},
            features=given.get("features") or None,
            instances=list(given.get("instances", [])) or None,
            listing=(given.get("listing") or [None])[0],
            output_trials=made.trials,
            output_images=made.images,
            settings=SplitSettings(**{key: params[key] for key in SplitSettings._fields}),
        )
