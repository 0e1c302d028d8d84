# Two commands:   make book   builds the site;   make test   proves it.
# Others:         archive, pdf, test-fast, soak, lint, execute, data, bench, gpu, gpu-bundle, colab,
#                 release, clean. `make execute NOTEBOOKS="rs2" PROFILE=small`,
#                 `make gpu MINUTES=12`, `make release VERSION=1.2.3`

.DEFAULT_GOAL := book
.DELETE_ON_ERROR:
.PHONY: book archive pdf test test-fast soak lint execute data bench gpu gpu-bundle colab \
	release clean

PROFILE ?= small
NOTEBOOKS ?=
PYTEST_ARGS ?=
MINUTES ?= 12
VERSION ?=
# Of the benchmarks, some need a GPU and some have a command of their own.
BENCHMARKS := $(filter-out __init__ sides card card_views step_overhead step_rate gpu gpu_bundle colab_simulation, \
	$(basename $(notdir $(wildcard benchmarks/*.py))))

# The first Python from 3.11 on that can make a virtual environment; `make PYTHON=...` overrides it.
NEEDED := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c '$(NEEDED)' >/dev/null 2>&1 && echo "$$p" && break; done)

define make-environment
@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(NEEDED)' >/dev/null 2>&1 || { \
	echo "No Python 3.11 or newer with venv and ensurepip found (tried: $(or $(PYTHON),python3, python3.13, python3.12, python3.11, python)).";\
	echo "Install one (on Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python3.12";\
	exit 1; }
"$(PYTHON)" -m venv --clear $(1)
$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(2)
endef

.venv-book/ready: requirements-book.txt
	$(call make-environment,.venv-book,requirements-book.txt)
	@touch $@

.venv/ready: requirements.txt pyproject.toml
	$(call make-environment,.venv,requirements.txt)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# With the peers beside which `make bench` measures.
.venv-bench/ready: requirements-bench.txt
	$(call make-environment,.venv-bench,requirements-bench.txt)
	@touch $@

book: .venv-book/ready
	.venv-book/bin/python -m press book

archive: .venv-book/ready
	.venv-book/bin/python -m press book --archive

# With the archive, since a new site offers neither until it was made from it.
pdf: archive .venv/ready
	.venv/bin/python -m press pdf

test: .venv/ready
	.venv/bin/python -m pytest -n auto --dist loadfile $(PYTEST_ARGS)

test-fast: .venv/ready
	.venv/bin/python -m pytest -n auto --dist loadfile \
		-m "not slow and not browser and not notebook and not gpu and not soak" $(PYTEST_ARGS)

soak: .venv/ready
	.venv/bin/python -m pytest -m soak $(PYTEST_ARGS)

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/python -m mypy labutils
	.venv/bin/codespell

execute: .venv/ready
	.venv/bin/python -m press execute $(NOTEBOOKS) --profile $(PROFILE)

data: .venv/ready
	.venv/bin/python -m press data

bench: .venv-bench/ready
	set -e; for name in $(BENCHMARKS); do .venv-bench/bin/python -m benchmarks.$$name; done

# On a rented card the machine's own Python has the torch that fits; .venv is used where it is.
gpu:
	$(or $(wildcard .venv/bin/python),$(PYTHON),python3) -m benchmarks.gpu --minutes $(MINUTES)

gpu-bundle: .venv/ready
	.venv/bin/python -m benchmarks.gpu_bundle

colab: .venv/ready
	.venv/bin/python -m benchmarks.colab_simulation

release: .venv/ready
	.venv/bin/python -m press.release "$(VERSION)"

clean:
	rm -rf _build .venv .venv-book .venv-bench .pytest_cache .ruff_cache .mypy_cache *.egg-info
