"""Tabulate what every added target of all subjects is worth."""

from nsdldm.evaluation.beyond import tabulate_beyond
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    runs = [tuple(run) for run in params.runs]
    scores = {"retrieval": {}, "captions": {}, "depth": {}}
    for (subject, protocol, name), path in zip(params.scored, given.scores, strict=True):
        scores[name][subject, protocol, params.targets[name]] = path
    with logged(snakemake.log[0]):
        tabulate_beyond(
            summaries=dict(zip(runs, given.summaries, strict=True)),
            **scores,
            **{key: params[key] for key in ("ceilings", "dataset")},
            table=snakemake.output[0],
        )
