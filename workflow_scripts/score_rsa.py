"""Compare the geometry of one subject's responses with that of feature spaces."""

from nsdldm.encoding.components import Interval
from nsdldm.encoding.similarity import score_rsa
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        score_rsa(
            regions=dict(zip(params.rois, given.regions, strict=True)),
            kernels=list(given.kernels),
            halves=list(given.halves),
            **{key: given[key] for key in ("responses", "mask", "images")},
            **{key: params[key] for key in ("spaces", "form", "min_ncsnr")},
            interval=Interval(params.bootstrap, params.seed),
            output=snakemake.output[0],
        )
