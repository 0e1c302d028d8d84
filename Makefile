# Two commands:   make book   builds the site;   make test   proves it.
# Others:         archive, pdf, execute, data, bench, colab, lint, clean.
#                 `make execute CHAPTERS="rs2" PROFILE=small`

.DEFAULT_GOAL := book
.DELETE_ON_ERROR:
.PHONY: book archive pdf test execute data bench colab lint clean

PROFILE ?= small
CHAPTERS ?=
PYTEST_ARGS ?=

# The first Python from 3.11 on that can make a virtual environment; `make PYTHON=...` overrides it.
NEEDED := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.13 python; do \
	"$$p" -c '$(NEEDED)' >/dev/null 2>&1 && echo "$$p" && break; done)

define make-environment
@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(NEEDED)' >/dev/null 2>&1 || { \
	echo "No Python 3.11 or newer with venv and ensurepip found (tried: $(or $(PYTHON),python3, python3.12, python3.11, python3.13, python)).";\
	echo "Install one (on Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12";\
	exit 1; }
"$(PYTHON)" -m venv --clear $(1)
$(1)/bin/python -m pip install --quiet --disable-pip-version-check -r $(2)
endef

.venv-book/ready: requirements-book.txt requirements.txt
	$(call make-environment,.venv-book,requirements-book.txt)
	@touch $@

.venv/ready: requirements.txt pyproject.toml
	$(call make-environment,.venv,requirements.txt)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

book: .venv-book/ready
	.venv-book/bin/python -m press book

archive: .venv-book/ready
	.venv-book/bin/python -m press book --archive

pdf: book .venv/ready
	.venv/bin/python -m press pdf

test: .venv/ready
	.venv/bin/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

execute: .venv/ready
	.venv/bin/python -m press execute $(CHAPTERS) --profile $(PROFILE)

data: .venv/ready
	.venv/bin/python -m press data

bench: .venv/ready
	.venv/bin/python -m benchmarks.training_throughput
	.venv/bin/python -m benchmarks.view_throughput
	.venv/bin/python -m benchmarks.strong_augmentation
	.venv/bin/python -m benchmarks.lls_scaling
	.venv/bin/python -m benchmarks.contrastive_memory
	.venv/bin/python -m benchmarks.step_memory
	.venv/bin/python -m benchmarks.sweep_scaling

colab: .venv/ready
	.venv/bin/python -m benchmarks.colab_simulation

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

clean:
	rm -rf _build .venv .venv-book .pytest_cache .ruff_cache *.egg-info
