"""Decode one subject's test images with each choice of the protocol given up in turn."""

from nsdldm.decoding.decoders import compare_protocols
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        compare_protocols(
            betas=dict(zip(sorted(set(params.regions.values())), given.betas, strict=True)),
            features=dict(zip(params.regions, given.features, strict=True)),
            table=snakemake.output[0],
            **{key: given[key] for key in ("trials", "images", "z_logvar")},
            **{key: value for key, value in params.items() if key != "code"},
        )
