PYTHON ?= python3
BIN := .venv/bin
OUT ?= results
MINUTES ?= 10
SEED ?= 0

.PHONY: report reproduce reproduce-full test quick fuzz lint docs bench clean

report: .venv/installed
	$(BIN)/python -m analysis --out $(OUT)

reproduce: .venv/installed
	$(BIN)/python -m analysis.reproduce --out $(OUT)/reproduce

reproduce-full: .venv/installed
	$(BIN)/python -m analysis.reproduce --out $(OUT)/reproduce --full

test: .venv/installed
	$(BIN)/python -m pytest -n auto

quick: .venv/installed
	$(BIN)/python -m pytest -n auto -m "not slow"

fuzz: .venv/installed
	$(BIN)/python tests/fuzz/marches.py --minutes $(MINUTES) --seed $(SEED)
	$(BIN)/python tests/fuzz/hostile_commands.py --count 1000 --seed $(SEED)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check vsvf analysis tests benchmarks training integrations
	$(BIN)/mypy

docs: .venv/installed
	$(BIN)/mkdocs build --quiet

bench: .venv/installed
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.fixed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv results site build *.egg-info
