# `make run` starts the gateway, `make test` tests it. Both need python3 (3.11 or newer, with venv) and nothing else.
#
#   make run      the gateway in front of LM Studio, or of a built-in simulator where none answers;
#                 options go into ARGS: make run ARGS="--port 8002 --log-level debug"
#   make test     the tests
#   make check    lint, format and types
#   make lowest   the tests, with the oldest dependencies that setup.cfg allows
#   make e2e      real clients against a real model server; installs what it needs, some 400 MB
#   make bench    benchmarks; installs what they need
#   make faults   kills, full disks, floods and the like against a running gateway, about an hour; needs Linux and a C compiler
#   make format   reformat the code
#   make install  the environment of the above, and no more
#   make clean    throw away what can be made again

PYTHON ?= python3
VENV := .venv
LOWEST := .venv/lowest
RUFF := $(VENV)/bin/ruff
RUFFRC := --config .ci/ruff.toml
comma := ,
FAULTS := floods.py $(addprefix faults/,slow.py drain.py reloads.py disks.py kills.py fuzz.py mutants.py)

.PHONY: run test check lowest e2e bench faults format install clean

run: $(VENV)/.run
	@$(VENV)/bin/lmgateway run $(ARGS)

test: $(VENV)/.dev
	@$(VENV)/bin/python -m pytest -n 2

check: $(VENV)/.dev
	$(RUFF) check $(RUFFRC) .
	$(RUFF) format $(RUFFRC) --check .
	$(VENV)/bin/mypy src

lowest: $(LOWEST)/.installed
	@$(LOWEST)/bin/python -m pytest -n 2

e2e: $(VENV)/.dev
	@$(VENV)/bin/python e2e/run.py
	@$(VENV)/bin/python e2e/lmstudio_sdks.py
	@$(VENV)/bin/python e2e/tls.py
	@$(VENV)/bin/python e2e/dashboard.py

bench: $(VENV)/.dev
	@$(VENV)/bin/python bench/run.py

# All of them, whatever the others find.
faults: $(VENV)/.dev
	@broken=; for script in $(FAULTS); do \
	  echo "--- $$script"; $(VENV)/bin/python bench/$$script || broken="$$broken $$script"; \
	done; if [ -n "$$broken" ]; then echo "A promise was broken:$$broken" >&2; exit 1; fi

format: $(VENV)/.dev
	$(RUFF) check $(RUFFRC) --fix-only .
	$(RUFF) format $(RUFFRC) .

install: $(VENV)/.dev

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -rf src/*.egg-info src/twisted/plugins/dropin.cache _trial_temp* bench/.cache e2e/.cache

# Installed again whenever what is to be installed has changed.
$(VENV)/.run: setup.cfg pyproject.toml
	$(call makeVenv,.)

$(VENV)/.dev: setup.cfg pyproject.toml
	$(call makeVenv,.[test$(comma)check])
	@touch $(VENV)/.run

$(LOWEST)/.installed: setup.cfg pyproject.toml $(VENV)/.dev
	@$(PYTHON) -m venv --clear $(LOWEST)
	@sed -n 's/^  *\([A-Za-z0-9._-]*\)\(\[[a-z,]*\]\)\{0,1\}>=\(.*\)/\1==\3/p' setup.cfg >$(LOWEST)/constraints.txt
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint $(LOWEST)/constraints.txt --editable '.[test]'
	@touch $@

# A virtual environment holding the gateway, editable. $(1): what pip is to install.
define makeVenv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "lmgateway needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)."; \
	  echo "Install a newer one, or name it: make $(or $(MAKECMDGOALS),run) PYTHON=python3.12"; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments: its venv module is missing."; \
	  echo "On Debian and Ubuntu: sudo apt-get install python3-venv"; exit 1; } >&2
	@echo "Installing lmgateway into $(VENV) (once; needs the network) ..."
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '$(1)'
	@touch $@
endef
