"""Decode the images of another test set with one subject's decoders."""

from nsdldm.decoding.decoders import DecoderSettings, apply_decoders
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    targets, regions = list(params.regions), sorted(set(params.regions.values()))
    with logged(snakemake.log[0]):
        apply_decoders(
            **{key: dict(zip(regions, given[key], strict=True)) for key in ("responses", "tested")},
            features=dict(zip(targets, given.features, strict=True)),
            **{key: given[key] for key in ("images", "z_logvar")},
            regions=params.regions,
            protocol=snakemake.wildcards.protocol,
            settings=DecoderSettings(**{key: params[key] for key in DecoderSettings._fields}),
            decoded=dict(zip(targets, snakemake.output, strict=True)),
        )
