"""Draw reconstructions of each subject by decoders trained on one subject and on all."""

from itertools import product

from nsdldm.plots.pictures import Showing
from nsdldm.plots.trained_subjects import plot_trained_subjects
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    runs = list(product(params.methods, params.subjects))
    with logged(snakemake.log[0]):
        plot_trained_subjects(
            stimuli=given.stimuli,
            images=dict(zip(params.subjects, given.images, strict=True)),
            reconstructions=dict(zip(runs, given.reconstructions, strict=True)),
            samples=dict(zip(runs, given.samples, strict=True)),
            showing=Showing(**params.showing),
            **{key: params[key] for key in ("adapters", "demo")},
            **dict(snakemake.output.items()),
        )
