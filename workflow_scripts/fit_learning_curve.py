"""Decode one subject's test images with the first sessions, and with more of them."""

from nsdldm.decoding.decoders import DecoderSettings
from nsdldm.decoding.learning import fit_learning_curve
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        fit_learning_curve(
            responses=dict(zip(sorted(set(params.regions.values())), given.responses, strict=True)),
            features=dict(zip(params.regions, given.features, strict=True)),
            regions=params.regions,
            points=params.points,
            settings=DecoderSettings(
                **{key: params[key] for key in DecoderSettings._fields if key != "solver"}
            ),
            **{key: given[key] for key in ("trials", "images")},
            predictions=snakemake.output[0],
        )
