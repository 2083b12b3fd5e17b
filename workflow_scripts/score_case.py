"""Score what decoders of one subject make of the test images of a case, image by image."""

from nsdldm.evaluation.generalisation import Images, score_case
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    kinds = ("images", "stimuli", "space")
    with logged(snakemake.log[0]):
        score_case(
            tested=Images(
                **{key: given[key] for key in kinds},
                features=dict(zip(params.targets, given.features, strict=True)),
            ),
            known=Images(
                **{key: given[f"known_{key}"] for key in kinds},
                features=dict(zip(params.targets, given.known_features, strict=True)),
            ),
            decoded=dict(zip(params.targets, given.decoded, strict=True)),
            reconstructions=dict(zip(params.sources, given.reconstructions, strict=True)),
            **{
                k: params[k]
                for k in ("network", "similar", "samples", "seed", "device", "batch_size")
            },
            table=snakemake.output[0],
        )
