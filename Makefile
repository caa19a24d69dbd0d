# Two commands for users: `make benchmark` and `make test`. Needs Python 3.11 or later and make.
PYTHON ?= python3
BIN := .venv/bin
# Stages of dvc.yaml call `python`: it has to be this one.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# PROFILE and FACES switch, then all goes on with the active profile, params.yaml.
SWITCH = $(if $(PROFILE)$(FACES),$(BIN)/python -m pipeline.operate.profile $(PROFILE) $(if $(FACES),--faces "$(FACES)"))

.PHONY: help weights setup benchmark demo speed serve test test-numbers test-long lint lock clean

help:
	@echo "make benchmark   install, then dvc repro: photographs, fakes, fits, matrix, report"
	@echo "    PROFILE=celeba FACES=/path/to/img_align_celeba: the same in colour (README, Profiles)"
	@echo "make test        the tests (minutes); make test-numbers, make test-long: more of them"
	@echo "make demo        a page in the browser to try the detector, until Ctrl-C"
	@echo "make serve       a Prefect server and the flow generate-and-train, until Ctrl-C"
	@echo "make speed       how fast it is beside other ways (15 minutes, alone on the machine)"
	@echo "make weights     train the generators anew (hours on a CPU) into generators/weights"
	@echo "make setup       install only; make lint, make lock, make clean"

setup: .venv/.installed

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit("error: Python %d.%d found, 3.11 or later expected; name one with: make PYTHON=python3.11" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c requirements.lock -e ".[dev]"
	@touch $@

# Photographs, fakes, fits, the matrix and the report; only what has changed is run.
benchmark: setup
	$(SWITCH)
	@$(BIN)/python -m pipeline.operate.profile --packages | xargs -r $(BIN)/python -m pip install --disable-pip-version-check --no-deps
	$(BIN)/dvc repro
	$(BIN)/dvc metrics show --md

# The generators' training, a pipeline of its own; goes on where it was stopped.
weights: setup
	$(SWITCH)
	set -e; profile=$$($(BIN)/python -m pipeline.operate.profile --active); \
	$(BIN)/dvc repro --glob "generators/dvc.yaml:train-$$profile@*"; mkdir -p generators/weights/$$profile; \
	for out in generators/runs/$$profile/*/; do case $$out in *.run/) ;; *) cp -r $$out. generators/weights/$$profile/;; esac; done

# Another model or port: make demo ARGS='--model celeba --port 8600'
demo: setup
	$(BIN)/python -m deepfd.demo $(ARGS)

# docs/speed.md: ours and each peer in turns. What is compared with is in the extra `speed`. Nothing
# else may run meanwhile; growth is apart: python -m benchmarks.speed.growth --keep
speed: setup
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements.lock -e ".[speed]"
	$(BIN)/dvc repro folds
	$(BIN)/python -m benchmarks.speed --keep

# A Prefect server and what runs its flow, until Ctrl-C; docs/operations.md. By itself each night:
# make serve ARGS='--cron "0 3 * * *"'
serve: setup
	$(BIN)/python -m pipeline.operate.serve $(ARGS)

test: setup
	$(BIN)/python -m pytest

# What networks compute, in each number format, whichever of them is the faster on this CPU.
test-numbers: setup
	for format in fp32 bf16; do \
	DEEPFD_PRECISION=$$format $(BIN)/python -m pytest -q -m "numbers and not long" || exit 1; done

# Minutes rather than seconds.
test-long: setup
	$(BIN)/python -m pytest -m long --timeout 3600

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Writes down what is installed now; a local tag such as +cpu is left out, CUDA builds have another.
lock:
	echo '# Exact versions of everything installed: `make lock` writes this file from .venv.' > requirements.lock
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' >> requirements.lock

# Removes everything the pipeline makes: what git ignores in these places, then what is left to git
# and was not committed (the history of the rounds too). Keeps the environment, the generators'
# weights and the runs of `make weights`, which took hours.
clean:
	git clean -fdXq -- data models scores dvclive benchmarks .dvc/cache .dvc/tmp
	git clean -fdq -- dvc.lock benchmarks/history.parquet benchmarks/metrics.json benchmarks/plots
