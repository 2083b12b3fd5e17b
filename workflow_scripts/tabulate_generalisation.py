"""Tabulate the scores of all cases and subjects."""

from nsdldm.evaluation.generalisation_table import tabulate_generalisation
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        tabulate_generalisation(
            scores=dict(zip(map(tuple, params.scored), given.scores, strict=True)),
            encoders=dict(zip(map(tuple, params.encoded), given.encoders, strict=True)),
            inference=dict(zip(params.subjects, given.inference, strict=True)),
            **{key: params[key] for key in ("kinds", "ceilings", "bootstrap", "seed", "dataset")},
            table=snakemake.output[0],
        )
