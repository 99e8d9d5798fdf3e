# Everything a person does here. Each target sets up what it needs, inside this folder.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RIVALS := $(VENV)/.rivals
# What is compiled: each module of `protocol` that has its types in a .pxd beside it.
HOT      := $(basename $(wildcard protocol/*.pxd))
COMPILED := $(VENV)/.compiled
# Tests that load or measure the whole machine: they run one at a time, with nothing beside them.
ALONE  := tests/chaos tests/integration/test_event_crowds.py

# Compiled modules make every process start faster; somebody else's modules make it another program.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH
# A person's settings for pip that would send the packages elsewhere.
unexport PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: setup demo test chaos check bench docs clean help

setup: $(COMPILED)  ## make .venv with everything, and compile; again only what has changed

demo: $(COMPILED)  ## train a digit classifier whose parts are plugins, and crash one of them
	$(BIN)/python examples/digits/train.py

# A test that hangs ends its process: without --max-worker-restart all others would then wait for ever.
test: $(COMPILED)  ## run every test; JOBS= says how many at a time, 3 by default
	$(BIN)/pytest --numprocesses $(or $(JOBS),3) --dist loadfile --max-worker-restart 0 $(ALONE:%=--ignore=%)
	$(BIN)/pytest $(ALONE)
	@if ls protocol/*.so >/dev/null 2>&1; then \
	    echo "Once more in plain Python"; $(BIN)/python -m pytest -p tests.plain tests/unit/protocol; fi

chaos: $(COMPILED)  ## kill workers and daemons by the thousand, and account for all: half an hour; SEED=
	$(BIN)/pytest tests/chaos -o faulthandler_timeout=3600 \
	    --chaos-events $(or $(EVENTS),10000000) --chaos-kills $(or $(KILLS),20) \
	    --worker-kills $(or $(WORKER_KILLS),2000) --daemon-kills $(or $(DAEMON_KILLS),200) \
	    --crash-cycles $(or $(CYCLES),1000) --stop-s 5 --idle-s 20 --flood-s 20 --packets $(or $(PACKETS),1000000) --failpoints all $(if $(SEED),--seed $(SEED))
	$(BIN)/pytest tests/simulation --seeds $(or $(SEEDS),5000)
	$(BIN)/pytest tests/integration/test_state_machine.py --machine-runs $(or $(RUNS),500) --machine-steps 50 -o faulthandler_timeout=600

check: $(STAMP)  ## lint, types, import contracts: seconds
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_names.py

bench: $(RIVALS) $(COMPILED)  ## measure, with the baselines in the same run
	$(BIN)/python -m benchmarks

docs: $(STAMP)  ## check that every link in the documentation leads somewhere
	$(BIN)/python tools/check_links.py README.md docs examples

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f protocol/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +

help:  ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# A venv knows the folder it was made in: in a moved or copied tree it is made again.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml tools/make_venv
	@echo "Setting up $(VENV) (once; a minute or so)"
	@tools/make_venv "$(PYTHON)" $(VENV)
	@$(BIN)/python -m pip -qq --disable-pip-version-check install --compile --editable '.[arrays,demo,dev]'
	@echo "$(CURDIR)" > $@

# Some are missing, which could not be compiled yet, or left over: it is tried again each time.
ifneq ($(words $(HOT)),$(words $(wildcard protocol/*.so)))
.PHONY: $(COMPILED)
endif

# Without a C compiler it says so, and all goes on in plain Python.
$(COMPILED): $(STAMP) setup.py $(wildcard $(HOT:=.pxd) $(HOT:=.pyx) $(HOT:=.py))
	@echo "Compiling what every call passes (20 s the first time)"
	@touch $@.begun
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@mv $@.begun $@

# What only the benchmarks need. Where it cannot be had they run without, and say so.
$(RIVALS): $(STAMP)
	@echo "Adding the libraries that the benchmarks compare with (once)"
	@if $(BIN)/python -m pip -qq --disable-pip-version-check install --compile --editable '.[bench]'; then touch $@; fi
