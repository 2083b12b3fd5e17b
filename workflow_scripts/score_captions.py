"""Score the captions chosen for one subject's test images."""

from nsdldm.evaluation.captions import Clip, score_captions
from nsdldm.support.logs import logged

if __name__ == "__main__":
    given, params, made = snakemake.input, snakemake.params, snakemake.output
    own = params.settings
    with logged(snakemake.log[0]):
        score_captions(
            **{key: given[key] for key in ("chosen", "images", "captions", "stimuli")},
            clip=Clip(own["clip"], own["revision"], params.device, params.batch_size),
            wordnet=own["wordnet"],
            **{key: params[key] for key in ("bootstrap", "seed")},
            output=made.table,
            details=made.by_image,
        )
