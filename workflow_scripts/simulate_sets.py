"""Simulate one subject's sessions of NSD-synthetic and NSD-Imagery."""

from pathlib import Path

from nsdldm.demo.sessions import simulate_sets
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    files = ("design", "stimuli", "synthetic_design", "synthetic_stimuli")
    with logged(snakemake.log[0]):
        simulate_sets(
            subject=snakemake.wildcards.subject,
            **{key: given[key] for key in files},
            targets={Path(path).stem: path for path in given.targets},
            **{key: params[key] for key in ("root", "seed", "sessions")},
            scenes_seed=params.seed,
        )
