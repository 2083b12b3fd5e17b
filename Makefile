# Everything runs in .venv, made from the pinned versions in envs/requirements.txt.

PYTHON ?= python3.11
CORES ?= 2
RUN = .venv/bin/snakemake --cores $(CORES)

.PHONY: demo test lint plan envs clean

demo: .venv/installed
	$(RUN)
	@echo
	@echo "Figures (open them in a browser or a viewer):"
	@ls -1 results/figures/* results/*/figures/* | sed 's/^/  /'
	@echo "Tables:"
	@ls -1 results/tables/* | sed 's/^/  /'

test: .venv/installed
	.venv/bin/python -m pytest

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	.venv/bin/snakemake --lint

# What a run would do and why, by subject.
plan: .venv/installed
	@$(RUN) --dry-run --quiet host progress | awk -f rules/plan.awk

# The conda files follow the pinned versions.
envs: .venv/installed
	.venv/bin/python envs/write_conda.py

.venv/installed: envs/requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement envs/requirements.txt
	touch $@

clean:
	rm -rf results logs .snakemake benchmarks/demo benchmarks/subj*
