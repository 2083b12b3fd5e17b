"""Make pictures from one subject's test responses by a trained decoder, for one chunk of them."""

from nsdldm.support.logs import logged
from nsdldm.trained.sampling import reconstruct_trained

if __name__ == "__main__":
    given, params, names = snakemake.input, snakemake.params, snakemake.wildcards
    with logged(snakemake.log[0]):
        reconstruct_trained(
            method=names.method,
            subject=names.subject,
            chunk=int(names.chunk),
            output=snakemake.output[0],
            **{key: given[key] for key in ("images", "responses", "rows", "weights")},
            **{key: value for key, value in params.items() if key != "code"},
        )
