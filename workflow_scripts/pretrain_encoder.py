"""Train the autoencoder of masked responses of one cohort."""

from nsdldm.support.logs import logged
from nsdldm.trained.loop import Files
from nsdldm.trained.parallel import run_on_all_gpus
from nsdldm.trained.pretraining import pretrain_encoder

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    with logged(snakemake.log[0]):
        run_on_all_gpus(
            pretrain_encoder,
            # Lists in the order of subjects.
            **{k: dict(zip(params.subjects, given[k], strict=True)) for k in ("responses", "rows")},
            **{key: params[key] for key in ("settings", "seed", "device", "precision")},
            files=Files(params.partial, *snakemake.output),
        )
