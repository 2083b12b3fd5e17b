"""Lead from the published figures to the page of maps of the subject that they show."""

from nsdldm.support.logs import logged
from nsdldm.support.redirects import write_redirect

if __name__ == "__main__":
    with logged(snakemake.log[0]):
        for path in snakemake.output:
            name = path.rpartition("/")[2].removesuffix(".html")
            folder = f"../{snakemake.params.subject}/report"
            write_redirect(output=path, target=f"{folder}/cortex.html#{name}")
