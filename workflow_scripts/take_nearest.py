"""Take the nearest training image of what was decoded of each of one subject's test images."""

from nsdldm.evaluation.retrieval import find_nearest, write_nearest
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made = snakemake.input, snakemake.output
    with logged(snakemake.log[0]):
        find_nearest(
            **{key: given[key] for key in ("decoded", "features", "images")}, output=made.nearest
        )
        write_nearest(
            nearest=made.nearest,
            **{key: given[key] for key in ("images", "stimuli")},
            resolution=snakemake.params.resolution,
            output=made.pictures,
        )
