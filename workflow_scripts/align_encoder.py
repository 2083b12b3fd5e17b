"""Train the encoder of one cohort and method further, towards CLIP or together with pictures."""

from nsdldm.support.logs import logged
from nsdldm.trained.alignment import align_encoder
from nsdldm.trained.loop import Files
from nsdldm.trained.parallel import run_on_all_gpus

if __name__ == "__main__":
    given, params = snakemake.input, snakemake.params
    names = ("responses", "rows", "images", "clip_image", "clip_text")
    with logged(snakemake.log[0]):
        run_on_all_gpus(
            align_encoder,
            # Lists in the order of subjects.
            **{key: dict(zip(params.subjects, given[key], strict=True)) for key in names},
            **{key: given[key] for key in ("encoder", "stimuli")},
            **{key: params[key] for key in ("settings", "seed", "device", "precision")},
            files=Files(params.partial, *snakemake.output),
        )
