"""Score what decoders of one subject make of the test images of a case, image by image."""

from nsdldm.evaluation.generalisation import Images, score_case
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    sides, kinds = {"tested": "", "known": "known_"}, ("images", "stimuli", "space")
    names = ("network", "similar", "samples", "seed", "device", "batch_size")
    with logged(snakemake.log[0]):
        score_case(
            **{
                side: Images(
                    **{key: given[prefix + key] for key in kinds},
                    features=dict(zip(params.targets, given[f"{prefix}features"], strict=True)),
                )
                for side, prefix in sides.items()
            },
            decoded=dict(zip(params.targets, given.decoded, strict=True)),
            reconstructions=dict(zip(params.sources, given.reconstructions, strict=True)),
            **{key: params[key] for key in names},
            table=snakemake.output[0],
        )
