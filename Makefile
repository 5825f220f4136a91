# make demo: four frameworks on the digits. make test: lint, types and all tests. make torture: hours of faults.
# make docs: the pages of docs/ as a site in build/docs. Each makes .venv first.
PYTHON ?= python3
BIN := .venv/bin

# The browser test needs one. As root on Debian it is installed where it is missing; elsewhere this says what to install.
HAS_BROWSER := test -x "$${CHROMIUM:-$$(command -v chromium)}" && command -v chromedriver >/dev/null

.PHONY: demo test tests floors torture lint types docs catalogs install browser axe clean

demo: $(if $(wildcard .venv/installed),.venv/installed,.venv/demo)
	$(BIN)/lockstep run studies/demo.toml

# What looks at pages for people who see, hear or type otherwise, from npm: one file, for the browser test alone.
AXE := axe-core@4.14.0
axe: browser build/axe/axe.min.js
build/axe/axe.min.js:
	@if command -v npm >/dev/null; then \
	  mkdir -p build/axe && cd build/axe && npm pack --silent $(AXE) >/dev/null \
	    && tar -xzf axe-core-*.tgz --strip-components=1 package/axe.min.js package/LICENSE && rm axe-core-*.tgz && touch axe.min.js \
	    || echo "axe-core could not be had from npm: the test that asks it will say so"; \
	else echo "no npm here: the test that asks axe-core is skipped (Debian: apt-get install npm)"; fi

# Types are checked beside the first tests, and three workers share two cores: many tests wait for processes.
test: lint browser axe
	@$(MAKE) --no-print-directory -j 2 types tests

tests: .venv/installed
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# The oldest versions that pyproject.toml allows, in a venv of their own, and tests of all that is asked of them.
# FLOORS=jax or FLOORS=tensorflow takes that framework too.
FLOORS :=
UV = $(shell command -v uv || echo $(BIN)/uv)
OLD := build/floors
OLD_TESTS := backends/test_weights cli/test_usage data/test_data data/test_idx data/test_images files/test_locks \
  report/draw/test_canvas report/draw/test_plots spec/test_spec spec/test_toml store/test_store test_language
floors: .venv/installed
	$(UV) venv --quiet --clear --python $(BIN)/python $(OLD)
	$(UV) pip compile --quiet --no-header --python $(OLD)/bin/python --resolution lowest-direct $(addprefix --extra ,$(FLOORS)) \
	  --output-file $(OLD)/floors.txt pyproject.toml
	$(UV) pip install --python $(OLD)/bin/python --requirement $(OLD)/floors.txt --editable .
	$(UV) pip install --python $(OLD)/bin/python --constraint $(OLD)/floors.txt pytest hypothesis babel
	$(OLD)/bin/python -m pytest -p no:cacheprovider $(OLD_TESTS:%=tests/%.py)
	$(OLD)/bin/lockstep run studies/demo.toml --backends numpy$(FLOORS:%=,%) --runs $(OLD)/runs

torture: .venv/installed
	$(BIN)/python -m pytest --torture tests/torture tests/check/submissions/test_forged.py tests/report/draw/test_canvas.py

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

docs: .venv/installed
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "open build/docs/index.html"

# The translations that are read are compiled from src/lockstep/locale/*/*.po; installing does it too.
catalogs: .venv/installed
	$(BIN)/python setup.py catalogs

install: .venv/installed

browser:
	@if $(HAS_BROWSER); then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium chromium-driver >/dev/null \
	    || echo "chromium could not be installed: the browser test will say so"; \
	else echo "no chromium and chromedriver here: the browser test is skipped (Debian: apt-get install chromium chromium-driver)"; fi
	@if command -v node >/dev/null && command -v npm >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y nodejs npm >/dev/null \
	    || echo "node could not be installed: the tests of the page to draw on will say so"; \
	else echo "no node and npm here: tests of pages are skipped (Debian: apt-get install nodejs npm)"; fi

# The demo needs fewer packages than the tests: each has its mark, and the tests' serves the demo too.
.venv/demo: pyproject.toml constraints.txt
	@$(PYTHON) install.py all && touch $@

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) install.py dev && touch $@

clean:
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
