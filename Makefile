# Two commands for newcomers: make demo, make test. `make help` lists the rest.
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml setup.py build_ffi.py $(wildcard csrc/*.[ch] csrc/python/*)
WORKERS ?= auto

help:            ## list the targets
	@grep -E '^[a-z-]+: .*##|^[a-z-]+:  *##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/' | expand -t 16

demo: $(VENV)/.demo   ## gunicorn with 4 workers under load for 20 s, every response judged
	$(BIN)/python examples/atlas/demo.py

serve: $(VENV)/.demo  ## keep the example site up, to click through
	$(BIN)/python examples/atlas/demo.py --serve

test: $(VENV)/.test   ## the whole test-suite, in parallel
	$(BIN)/python -m pytest -n $(WORKERS)

test-versions: $(VENV)/.dev  ## the test-suite on every supported Python and Django that is here
	$(BIN)/nox

lint: $(VENV)/.dev    ## style, types, and the C core without a warning
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.12 tests/typing/*.py  # for 3.10, django-stubs' Self is Any
	$(BIN)/basedpyright
	cd tests/typing/with_plugin && PYTHONPATH=. $(abspath $(BIN))/mypy
	$(BIN)/clang-format --dry-run -Werror csrc/*.[ch] csrc/python/*.[ch] tests/c/*.[ch]
	$(BIN)/python tests/c/edges.py
	$(MAKE) -C tests/c lint

dist: $(VENV)/.dev    ## the sdist and a wheel for this machine, checked, in dist/
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m pytest -rA tests/packaging/check_dist.py

servers: $(VENV)/.dev  ## uWSGI, for its tests: it is built from source
	$(BIN)/pip install --quiet --disable-pip-version-check 'uWSGI>=2.0.24'

soak: $(VENV)/.test   ## workers killed under load, every answer judged: SOAK_SECONDS (600)
	$(BIN)/python tests/multiprocess/soak.py $(or $(SOAK_SECONDS),600) bench/results/soak.md

fuzz:            ## hostile segments, by libFuzzer: FUZZ_SECONDS (30) for each target; needs clang
	$(MAKE) -C tests/fuzz run SECONDS=$(or $(FUZZ_SECONDS),30)

check-model:     ## the models of the core's protocols, with Spin: some minutes on two cores
	@command -v spin >/dev/null || { echo "spin is missing: apt-get install spin"; exit 1; }
	python3 docs/design/models/check.py

docs: $(VENV)/.dev    ## the documentation's site, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@! grep -rE '<(script|link|img|iframe)[^>]+(src|href)="?(https?:)?//' build/site --include=*.html || \
	    { echo "the site must not fetch anything from elsewhere"; exit 1; }

bench: $(VENV)/.bench ## zoocache beside all that you would otherwise take; QUICK=1 for a minute's
	$(BIN)/python bench/compare.py $(if $(QUICK),--quick)

bench-django: $(VENV)/.bench ## the Django layer beside other caches of the ORM; QUICK=1 for a minute's
	$(BIN)/python bench/django/compare.py $(if $(QUICK),--quick)

clean:           ## remove the virtual environment and everything built
	rm -rf $(VENV) .nox build dist *.egg-info zoocache/shm/_zoocore.c zoocache/shm/*.so
	rm -rf tests/c/build tests/fuzz/build

$(VENV)/bin/python:
	@python3 -c 'import ensurepip' || { echo "python3 has no venv: apt-get install python3-venv"; exit 1; }
	@python3 -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' || \
	    { echo "Python.h is missing: apt-get install python3-dev"; exit 1; }
	@command -v cc >/dev/null || { echo "there is no C compiler: apt-get install gcc"; exit 1; }
	python3 -m venv $(VENV)

# One rule for three sets of dependencies; each rebuilds the extension when csrc/ changes.
$(VENV)/.demo: EXTRA = example
$(VENV)/.test: EXTRA = test
$(VENV)/.dev: EXTRA = dev
$(VENV)/.demo $(VENV)/.test $(VENV)/.dev: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[$(EXTRA)]'
	touch $@

# A peer that does not build here is left out: the comparison says so, and how to get it.
$(VENV)/.bench: $(SOURCES) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]' || { \
	    $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench-wheels]' && \
	    for peer in uWSGI pylibmc; do $(BIN)/pip install --quiet $$peer || true; done; }
	touch $@

.PHONY: help demo serve test test-versions lint dist docs servers soak fuzz check-model bench bench-django clean
