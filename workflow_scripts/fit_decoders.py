"""Decode features of one subject's test images under one protocol."""

from nsdldm.decoding.decoders import decode_features
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    targets = list(params.regions)
    outputs = {key: made[key] for key in ("decoded", "dimensions", "by_image", "weights")}
    with logged(snakemake.log[0]):
        decode_features(
            betas=dict(zip(sorted(set(params.regions.values())), given.betas, strict=True)),
            features=dict(zip(targets, given.features, strict=True)),
            protocol=snakemake.wildcards.protocol,
            **{key: dict(zip(targets, paths, strict=False)) for key, paths in outputs.items()},
            **{key: given[key] for key in ("trials", "images", "z_logvar")},
            **{key: value for key, value in params.items() if key != "code"},
        )
