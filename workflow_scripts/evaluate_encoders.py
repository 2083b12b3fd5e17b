"""Score the first two stages of one subject's trained decoders."""

from nsdldm.support.logs import logged
from nsdldm.trained.probes import SubjectFiles, evaluate_encoders

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        evaluate_encoders(
            subject=SubjectFiles(**{key: given[key] for key in SubjectFiles._fields}),
            encoders=dict(zip(params.encoders, given.encoders, strict=True)),
            aligned=dict(zip(params.before, given.aligned, strict=True)),
            **{key: params[key] for key in ("before", "bootstrap", "seed", "device")},
            **dict(snakemake.output.items()),
        )
