"""Fine-tune an encoder of responses and a diffusion model's cross-attention together."""

from nsdldm.logs import logged
from nsdldm.trained.diffusion import fine_tune_diffusion

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    names = ("responses", "rows", "images", "z")
    with logged(snakemake.log[0]):
        fine_tune_diffusion(
            encoder=given.encoder,
            # Lists in the order of subjects.
            **{key: dict(zip(params.subjects, given[key], strict=True)) for key in names},
            weights=snakemake.output.weights,
            curve=snakemake.output.curve,
            **{k: v for k, v in params.items() if k not in ("code", "subjects")},
        )
