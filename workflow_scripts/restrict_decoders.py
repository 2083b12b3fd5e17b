"""Decode one subject's test images through a bottleneck of few numbers."""

from nsdldm.decoding.bottleneck import restrict_decoders
from nsdldm.decoding.decoders import DecoderSettings
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params, made = snakemake.input, snakemake.params, iter(snakemake.output)
    targets, regions = list(params.regions), sorted(set(params.regions.values()))
    with logged(snakemake.log[0]):
        restrict_decoders(
            responses=dict(zip(regions, given.responses, strict=True)),
            features=dict(zip(targets, given.features, strict=True)),
            **{key: given[key] for key in ("images", "z_logvar")},
            **{key: params[key] for key in ("regions", "ranks", "noise")},
            protocol=snakemake.wildcards.protocol,
            settings=DecoderSettings(**{key: params[key] for key in DecoderSettings._fields}),
            decoded={rank: {name: next(made) for name in targets} for rank in params.ranks},
        )
