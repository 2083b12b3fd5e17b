"""Test the encoders of one subject with family-wise error control, and their reliability."""

from nsdldm.encoding.inference import infer_encoders
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params, made = snakemake.input, snakemake.params, snakemake.output
    with logged(snakemake.log[0]):
        infer_encoders(
            predictions=list(given.predictions),
            **{key: given[key] for key in ("responses", "mask")},
            halves=list(given.halves),
            regions=dict(zip(params.rois, given.regions, strict=True)),
            **{key: params[key] for key in ("fdr", "alpha", "seed")},
            n_permutations=params.permutations,
            n_flips=params.flips,
            maps=dict(zip(params.spaces, made.maps, strict=True)),
            table=made.table,
        )
