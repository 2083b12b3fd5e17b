"""Draw reconstructions of one subject's images of another test set."""

from nsdldm.plots.test_sets import Row, plot_test_set
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    rows = zip(params.rows, given.pictures, given.scores, strict=True)
    with logged(snakemake.log[0]):
        plot_test_set(
            **{key: snakemake.wildcards[key] for key in ("subject", "session")},
            **{key: given[key] for key in ("images", "stimuli")},
            rows=[Row(*names, *files) for names, *files in rows],
            demo=params.demo,
            **dict(snakemake.output.items()),
        )
