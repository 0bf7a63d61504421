# Everything from a fresh clone: each target installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGE := $(VENV)/.package
STAMP := $(VENV)/.installed
# which tests `make test` runs, and how
TESTS ?= tests
OPTIONS ?=

.PHONY: demo test fault check bench dist wheels clean
.DELETE_ON_ERROR:

$(PACKAGE): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "sshmap needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $(PACKAGE)

# what the tests need is several times as large
$(STAMP): $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $(STAMP)

demo: $(PACKAGE)
	@$(BIN)/python recipes/passenger_counts.py
	@echo
	@echo "These were generated trips on the built-in local cluster. Next, type:"
	@echo "  $(BIN)/sshmap ls -r sm://dev/passenger_counts/      what lies there now"
	@echo "  $(BIN)/python recipes/passenger_counts.py           again: nothing has to run"
	@echo "  $(BIN)/python recipes/passenger_counts.py --data DIR   your own CSV files"
	@echo "  $(BIN)/sshmap --help                                all commands"

test: $(STAMP)
	@.ci/components
	$(BIN)/python -m pytest -n 4 --ignore=tests/fault $(OPTIONS) $(TESTS)

# random faults, for as long as they take: whatever `make test` has only a small part of
fault: $(STAMP)
	@.ci/components
	@if [ -d tests/fault ]; then $(BIN)/python -m pytest -n 0 $(OPTIONS) tests/fault; else echo "there are no tests in tests/fault"; fi

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	@.ci/components
	$(BIN)/python -m compileall -q sshmap
	$(BIN)/python -m tests.benchmarks

# a wheel to install elsewhere, as sshmap-cluster
dist: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls dist/sshmap_cluster-*.whl

# what is fetched for hosts of another platform, in the versions installed here
wheels: $(STAMP)
	@.ci/wheels

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
