"""Score how well a family of feature spaces predicts every cortical voxel of one subject."""

from nsdldm.encoding.scores import score_encoders
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    with logged(snakemake.log[0]):
        score_encoders(
            regions=dict(zip(params.rois, given.regions, strict=True)),
            **{key: given[key] for key in ("predictions", "responses", "mask")},
            **{key: params[key] for key in ("fdr", "min_ncsnr", "every")},
            **{k: dict(zip(params.spaces, made[k], strict=True)) for k in ("maps", "tables")},
            sums=made.sums,
        )
