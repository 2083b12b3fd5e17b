"""Fine-tune an encoder of responses and a diffusion model's cross-attention together."""

from nsdldm.support.logs import logged
from nsdldm.trained.diffusion import fine_tune_diffusion
from nsdldm.trained.loop import Files
from nsdldm.trained.parallel import run_on_all_gpus

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    names = ("responses", "rows", "images", "z")
    own = ("model", "revision", "settings", "seed", "device", "precision")
    with logged(snakemake.log[0]):
        run_on_all_gpus(
            fine_tune_diffusion,
            encoder=given.encoder,
            # Lists in the order of subjects.
            **{key: dict(zip(params.subjects, given[key], strict=True)) for key in names},
            **{key: params[key] for key in own},
            files=Files(params.partial, *snakemake.output),
        )
