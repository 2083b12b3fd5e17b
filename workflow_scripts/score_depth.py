"""Score depth maps decoded of one subject's test images."""

from nsdldm.evaluation.depth import score_depth
from nsdldm.support.logs import logged

if __name__ == "__main__":
    params = snakemake.params
    with logged(snakemake.log[0]):
        score_depth(
            **dict(snakemake.input.items()),
            **{key: params[key] for key in ("bootstrap", "seed")},
            table=snakemake.output[0],
        )
