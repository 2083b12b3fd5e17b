"""Decode one subject's test images with decoders of the other subjects."""

from nsdldm.decoding.alignment import decode_by_others, list_references
from nsdldm.decoding.decoders import DecoderSettings
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params, made = snakemake.input, snakemake.params, snakemake.output
    targets, regions = list(params.regions), sorted(set(params.regions.values()))
    kinds = ("responses", "images", "features")
    with logged(snakemake.log[0]):
        decode_by_others(
            responses=dict(zip(regions, given.responses, strict=True)),
            images=given.images,
            features=dict(zip(targets, given.features, strict=True)),
            references=list_references(
                params.others, params.regions, *(given[f"reference_{kind}"] for kind in kinds)
            ),
            **{key: params[key] for key in ("regions", "tune")},
            n_components=params.components,
            settings=DecoderSettings(**{key: params[key] for key in DecoderSettings._fields}),
            decoded=dict(zip(targets, made.decoded, strict=True)),
            table=made.table,
        )
