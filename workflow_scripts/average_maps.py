"""Average maps over subjects on fsaverage."""

from nsdldm.exports.group import average_maps
from nsdldm.support.logs import logged

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        average_maps(
            folders=list(snakemake.input),
            **{key: snakemake.params[key] for key in ("subjects", "task", "spaces")},
            output=snakemake.output[0],
        )
