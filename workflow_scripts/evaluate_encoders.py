"""Score the first two stages of one subject's trained decoders."""

from nsdldm.support.logs import logged
from nsdldm.trained.probes import evaluate_encoders

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    named = {"encoders": params.encoders, "aligned": params.before}
    with logged(snakemake.log[0]):
        evaluate_encoders(
            **{k: dict(zip(names, given[k], strict=True)) for k, names in named.items()},
            **{key: value for key, value in given.items() if key not in named},
            **{k: v for k, v in params.items() if k not in ("code", "encoders")},
            **dict(snakemake.output.items()),
        )
