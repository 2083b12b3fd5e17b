# Everything runs in .venv, made from the pinned versions in envs/requirements.txt.

PYTHON ?= python3.11
CORES ?= 2
STAGE ?= all
RUN = .venv/bin/snakemake --cores $(CORES)
# For another build of the pinned torch, the address of an index that has it. See docs/gpu.md.
TORCH_INDEX ?=
PIP = .venv/bin/python -m pip install --quiet
INSTALL_TORCH = $(PIP) $(if $(TORCH_INDEX),--index-url "$(TORCH_INDEX)") \
    $(shell grep "^torch==" envs/requirements.txt)
SUDO = $(if $(filter-out 0,$(shell id -u)),sudo)

# If HOME is not writable, caches (of Snakemake, matplotlib, models) go into the project.
CACHES = $${XDG_CACHE_HOME:-$$HOME/.cache}/snakemake
ifneq ($(shell mkdir -p "$(CACHES)" 2> /dev/null && test -w "$(CACHES)" && echo writable),writable)
export XDG_CACHE_HOME := $(CURDIR)/.cache
export MPLCONFIGDIR := $(CURDIR)/.cache/matplotlib
endif

.DEFAULT_GOAL := help
.PHONY: help install demo trained beyond generalisation demo-model test test-finished test-others test-slurm test-kills lint plan status demo-numbers benchmark bad-input config-docs docs envs lock check-gpu torch clean

help:
	@echo "make install     .venv with pinned versions (then . .venv/bin/activate)"
	@echo "make demo        both simulated subjects, all figures, tables and pages (CORES=8 uses eight cores)"
	@echo "make trained     the trained decoders, their tables and figures"
	@echo "make beyond      image embeddings, captions, retrieval, depth and an image prior: figure 10"
	@echo "make generalisation  other splits and test sets, bottlenecks, little data, inference: figures 11 to 13"
	@echo "make plan        what a run would do and why, by subject"
	@echo "make status      how a run stands: done, running, failed and left, by rule and subject"
	@echo "make test        all tests except two of full-size networks"
	@echo "make check-gpu   whether torch can use a GPU here (make torch installs another build)"
	@echo "make lint, test-slurm, test-kills, benchmark, bad-input, config-docs, docs, envs, lock, demo-model, clean"
	@echo
	@echo "Figures and tables, made one by one as in snakemake --cores 2 results/figures/fig6.png:"
	@echo "  results/figures/{fig3,fig4,fig5,fig6,fig7,fig8,fig9,fig10,fig11,fig12,fig13,group,learning_curve}.png"
	@echo "  results/tables/{encoding,group,noise,blocks,protocols,metrics,learning_curve,beyond,generalisation}.tsv"
	@echo "  results/tables/{fcae_table2,fcae_table3,fcae_masked,fcae_retrieval}.tsv"
	@echo "  results/report/{gallery,trained_gallery,beyond_gallery,generalisation}.html"

install: .venv/installed
	@echo "Next: . .venv/bin/activate"

# Two jobs at a time, each on half of the cores: these jobs are so small that starting them takes much of
# the time. Figure 6 comes first. A line per finished job; all that Snakemake says is in .snakemake/log.
demo: .venv/installed
	PYTHONPATH=. $(RUN) --max-threads $$((($(CORES) + 1) / 2)) --resources gpu=2 --logger calm \
	    --prioritize results/figures/fig6.png
	$(RUN) --report results/report/report.html
	@echo
	@echo "Figures (open them in a browser or a viewer):"
	@ls -1 results/figures/* results/*/figures/* | sed 's/^/  /'
	@echo "Tables:"
	@ls -1 results/tables/* | sed 's/^/  /'
	@echo "Pages:"
	@ls -1 results/report/*.html | sed 's/^/  /'

# The trained decoders, with their tables and figures; see docs/trained.md.
trained: .venv/installed
	$(RUN) --max-threads $$((($(CORES) + 1) / 2)) --resources gpu=2 -- trained

# What is decoded besides z and c, and made of it; see docs/beyond.md.
beyond: .venv/installed
	PYTHONPATH=. $(RUN) --max-threads $$((($(CORES) + 1) / 2)) --resources gpu=2 --logger calm -- beyond

# What holds on other images, through a bottleneck and with little data; see docs/generalisation.md.
generalisation: .venv/installed
	PYTHONPATH=. $(RUN) --max-threads $$((($(CORES) + 1) / 2)) --resources gpu=2 --logger calm -- generalisation

# Side by side, half each by time: what needs runs of the workflow that tests share, and all else.
test: .venv/installed
	$(MAKE) --jobs 2 --keep-going --output-sync test-finished test-others

test-finished: .venv/installed
	.venv/bin/python -m pytest -m finished tests/workflow

# Networks of tests are too small for threads.
test-others: .venv/installed
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not finished"

# The workflow on a one-node Slurm; Debian, as root. Only the packages stay installed.
test-slurm: .venv/installed
	which sbatch slurmctld munged > /dev/null || \
	    { $(SUDO) apt-get update -q && \
	    $(SUDO) apt-get install -q -y --no-install-recommends slurm-wlm munge; }
	$(SUDO) .venv/bin/python -B -m pytest -p no:cacheprovider tests/slurm

# Kill a complete run once in every rule (half an hour), or with KILLS=3 in three rules of figure 6 (a
# few minutes). See docs/faults.md.
test-kills: .venv/installed
	rm -rf build/kills
	.venv/bin/python tests/faults/kill_runs.py --folder build/kills \
	    $(if $(KILLS),--kills $(KILLS) results/figures/fig6.png)

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	.venv/bin/snakemake --lint

# What a run would do and why, by subject.
plan: .venv/installed
	@.venv/bin/python rules/show_plan.py --cores $(CORES)

# How the run in this folder stands; FOLDER=nsd for another one. The same, renewed while it runs, is in
# results/report/status.html.
status: .venv/installed
	@.venv/bin/python -m nsdldm.workflow.status $(FOLDER)

# The tables of docs/demo.md, from those of a finished demo.
demo-numbers:
	.venv/bin/python docs/numbers/write.py results

# Steps and fits at full size; needs 5 GB of disk, 8 GB of memory and an hour or more. See
# benchmarks/README.md.
benchmark: .venv/installed
	PYTHONPATH=. .venv/bin/python benchmarks/full_size.py --scratch /tmp/nsdldm-full-size
	PYTHONPATH=. .venv/bin/python benchmarks/encoding.py \
	    --train 9000 --test 1000 --features 6400 --voxels 20000 --subsample 20

# docs/bad_input.md: what is said of each kind of bad input.
bad-input: .venv/installed
	PYTHONPATH=.:tests/unit .venv/bin/python -m bad_input

# docs/config.md and the JSON schema, from nsdldm/workflow/settings.py.
config-docs: .venv/installed
	PYTHONPATH=. .venv/bin/python -m nsdldm.workflow.config_docs

# The documentation as pages, with those of the package: site/index.html. What the notebook draws of
# the demo: cd docs/images && ../../.venv/bin/python ../notebooks/own_figure.py
docs: .venv/installed
	PYTHONPATH=. .venv/bin/mkdocs build --strict --quiet
	@echo "Open site/index.html"

# Train resources/demo_model from scratch: hours on two cores, minutes on a GPU. Continues where it was
# interrupted; STAGE=unet (see --help) runs one stage and the stages that it needs.
# Without these settings, glibc returns memory after every step and training takes several times as long.
demo-model: .venv/installed
	MALLOC_MMAP_THRESHOLD_=1000000000 MALLOC_TRIM_THRESHOLD_=10000000000 \
	    MALLOC_TOP_PAD_=100000000 .venv/bin/python -m nsdldm.demo.training --folder build/demo_model \
	    --output resources/demo_model --stage $(STAGE)

# Whether torch can compute on a GPU here, and if not, why.
check-gpu: .venv/installed
	@.venv/bin/python -m nsdldm.support.devices

# Install another build of torch into the existing environment: first torch itself, then what it needs.
torch: .venv/installed
	$(INSTALL_TORCH) --force-reinstall --no-deps
	$(INSTALL_TORCH)
	@.venv/bin/python -m nsdldm.support.devices

# The conda files follow the pinned versions.
envs: .venv/installed
	.venv/bin/python envs/write_conda.py

# Newer versions of everything but torch (or with TORCH=2.14.0, of it too); installs nothing.
lock: .venv/installed
	.venv/bin/python envs/lock.py $(if $(TORCH),--torch $(TORCH))

.venv/installed: envs/requirements.txt
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(INSTALL_TORCH))
	$(PIP) --requirement envs/requirements.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf results logs .snakemake benchmarks/demo benchmarks/joint benchmarks/subj* benchmarks/hour-subj*
