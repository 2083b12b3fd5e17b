"""Score how well a feature space predicts every cortical voxel of one subject."""

from nsdldm.encoding.scores import score_encoders
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        score_encoders(
            space=snakemake.wildcards.feature,
            regions=dict(zip(params.rois, given.regions, strict=True)),
            **{key: given[key] for key in ("predictions", "responses", "mask")},
            **{key: params[key] for key in ("fdr", "min_ncsnr", "every")},
            **dict(snakemake.output.items()),
        )
