# Two commands: `make tour` and `make test`. Each makes .venv first if it is missing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# A process of tests per core; a file of tests stays in one process, so that what its tests share is made once.
SPREAD := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: help setup tour test test-fast nano lint types contracts docs clean

help:
	@echo "make tour       every method on the embedded world; writes report.html"
	@echo "make test       lint, types, contracts, docs and all tests"
	@echo "make test-fast  the tests that are not marked slow"
	@echo "make nano NAME=nano-sam  make a nano checkpoint again (ARGS='--steps 100' for options)"
	@echo "make lint types contracts docs clean"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than 3.11; run: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

tour: $(READY)
	$(BIN)/wildsight tour --out report.html

test: lint types contracts docs $(READY)
	$(BIN)/python -m pytest $(SPREAD)

test-fast: $(READY)
	$(BIN)/python -m pytest $(SPREAD) -m 'not slow'

nano: $(READY)
	$(BIN)/python -m tools.nano $(NAME) $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf site build dist report.html .mypy_cache .ruff_cache .import_linter_cache .pytest_cache
