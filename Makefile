PYTHON ?= python3
BIN := .venv/bin
OUT ?= results

.PHONY: report reproduce reproduce-full test lint docs bench clean

report: .venv/installed
	$(BIN)/python -m analysis --out $(OUT)

reproduce: .venv/installed
	$(BIN)/python -m analysis.reproduce --out $(OUT)/reproduce

reproduce-full: .venv/installed
	$(BIN)/python -m analysis.reproduce --out $(OUT)/reproduce --full

test: .venv/installed
	$(BIN)/python -m pytest -n auto

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check vsvf analysis tests benchmarks training
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
