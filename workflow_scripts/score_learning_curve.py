"""Score one subject's decoders by the number of sessions."""

from nsdldm.diffusion.loading import Model
from nsdldm.evaluation.learning import score_learning_curve
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        score_learning_curve(
            features=dict(zip(params.targets, given.features, strict=True)),
            model=Model(**params.model),
            **{key: given[key] for key in ("predictions", "images", "stimuli")},
            **{key: params[key] for key in ("bootstrap", "seed")},
            table=snakemake.output[0],
        )
