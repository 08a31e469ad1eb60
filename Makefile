# Two commands on a fresh machine with Python, pip and make: `make demo` and `make test`.
# CONTRIBUTING.md says how long each takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
STAMP := $(VENV)/.installed

# pytest rewrites the asserts of every test file; kept as bytecode, a second run need not do it again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test suite test-long check lint types imports format quick install docs experiments clean

help:
	@echo "make demo         install into $(VENV), train the demo, draw its figure"
	@echo "make test         install into $(VENV), run every check and test but the long ones"
	@echo "make test-long    run the long ones: soak tests and whole experiments"
	@echo "make check        format check, lint, types, import rule and the quick tests"
	@echo "make format       format the code"
	@echo "make docs         build the documentation pages into docs/_build"
	@echo "make experiments  run the kept experiments again (minutes to hours)"

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(STAMP)

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py --folder demo

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/pyright

imports: $(STAMP)
	$(BIN)/lint-imports

# What is not pytest runs beside it: alone it would leave a core idle.
test: $(STAMP)
	@$(MAKE) --no-print-directory -j 2 lint imports types suite

# The tests of the kernels run what users run; the others, kernels that are compiled in a hurry.
KERNELS := tests/conformance tests/scan

suite: $(STAMP)
	$(PYTEST) -m "not long" $(KERNELS)
	$(PYTEST) -m "not long" --hurried $(addprefix --ignore=,$(KERNELS))

test-long: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[ray,wandb,mlflow]"
	$(PYTEST) -m long
	$(BIN)/python tools/extras.py

quick: $(STAMP)
	$(PYTEST) -m "not slow and not long" --hurried

check: $(STAMP)
	@$(MAKE) --no-print-directory -j 2 lint imports types quick

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build

experiments: $(STAMP)
	$(BIN)/python experiments/advice/run.py
	$(BIN)/python experiments/chunker/run.py
	$(BIN)/python experiments/compare/run.py
	$(BIN)/python experiments/latch/run.py
	$(BIN)/python experiments/long_lags/run.py
	$(BIN)/python experiments/memory_horizon/run.py
	for name in long-lag-table long-lag-2b long-lag-2c adding temporal-order reber solved-now; do \
		$(BIN)/longlag reproduce $$name --folder experiments/reproduce/$$name --overwrite || exit 1; \
	done
	$(BIN)/python experiments/real_sequences/run.py
	$(BIN)/python experiments/readouts/run.py
	$(BIN)/python experiments/reservoirs/run.py
	$(BIN)/python experiments/sequential_digits/run.py
	$(BIN)/python experiments/turing/run.py
	$(BIN)/python experiments/turing/learning.py
	$(BIN)/python experiments/vanishing/run.py

clean:
	rm -rf $(VENV) demo dist build docs/_build
