# make demo: four frameworks on scikit-learn's digits. make test: lint, types and all tests. make torture: hours of faults.
# Each makes .venv first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test torture lint types install clean

demo: .venv/installed
	$(BIN)/lockstep run studies/demo.toml

test: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

torture: .venv/installed
	$(BIN)/python -m pytest --torture tests/test_torture_*.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
