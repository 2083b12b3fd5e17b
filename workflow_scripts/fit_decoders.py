"""Decode features of one subject's test images under one protocol."""

from nsdldm.decoding.decoders import DecoderSettings, decode_features
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    targets = list(params.regions)
    outputs = {key: made[key] for key in ("decoded", "dimensions", "by_image", "weights")}
    with logged(snakemake.log[0]):
        decode_features(
            responses=dict(zip(sorted(set(params.regions.values())), given.responses, strict=True)),
            features=dict(zip(targets, given.features, strict=True)),
            regions=params.regions,
            protocol=snakemake.wildcards.protocol,
            settings=DecoderSettings(**{key: params[key] for key in DecoderSettings._fields}),
            **{key: given[key] for key in ("images", "z_logvar")},
            **{key: dict(zip(targets, paths, strict=False)) for key, paths in outputs.items()},
        )
