"""Decode one subject's test images with each choice of the protocol dropped in turn."""

from nsdldm.decoding.decoders import DecoderSettings, compare_protocols
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        compare_protocols(
            responses=dict(zip(sorted(set(params.regions.values())), given.responses, strict=True)),
            features=dict(zip(params.regions, given.features, strict=True)),
            regions=params.regions,
            settings=DecoderSettings(**{key: params[key] for key in DecoderSettings._fields}),
            table=snakemake.output[0],
            **{key: given[key] for key in ("images", "z_logvar")},
        )
