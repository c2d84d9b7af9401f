# A fresh machine needs Python and make. The first target that needs it makes .venv and installs
# into it. `make PYTHON=/path/to/python test` installs for that interpreter.

PYTHON =
SUPPORTED = (3, 11) <= sys.version_info[:2] <= (3, 13)
# 3.11 comes first: tensorflow-addons has no wheels for newer ones.
CANDIDATES = python3.11 python3.12 python3.13 python3 python
BIN = .venv/bin
INSTALLED = .venv/installed-for
# One process per core. A file's tests share fixtures, so they stay in one process.
PARALLEL = --numprocesses=auto --dist=loadfile --no-loadscope-reorder

ifneq ($(PYTHON),)
CANDIDATES = "$(PYTHON)"
ifneq ($(PYTHON),$(shell cat $(INSTALLED) 2>/dev/null))
CLEAR = --clear
$(INSTALLED): other-python
endif
endif

.PHONY: help demo test test-all lint docs other-python

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: $(INSTALLED) ## run every stage on synthetic faces
	@$(BIN)/python tools/demo.py

test: $(INSTALLED) ## run the tests that take up to five seconds each
	@$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-all: $(INSTALLED) ## run all tests
	@$(BIN)/python -m pytest $(PARALLEL)

lint: $(INSTALLED) ## check style, format and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

docs: $(INSTALLED) ## build the documentation site in site/; a dead link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Each candidate is run: a pyenv shim may exist for a Python that it cannot start.
$(INSTALLED): pyproject.toml setup.py constraints.txt
	@python= incomplete=; \
	for candidate in $(CANDIDATES); do \
	  "$$candidate" -c 'import sys; sys.exit(not $(SUPPORTED))' 2>/dev/null || continue; \
	  "$$candidate" -c 'import ensurepip, venv' 2>/dev/null && python=$$candidate && break; \
	  incomplete=$$candidate; \
	done; \
	fail() { echo "make: $$1" >&2; exit 1; }; \
	if test -z "$$python$$incomplete"; then \
	  fail 'no Python 3.11 to 3.13 among $(subst ",,$(CANDIDATES)): install one (3.11 is best), or name it: make PYTHON=/path/to/python'; \
	elif test -z "$$python"; then \
	  fail "$$incomplete has no ensurepip or venv module: install it (on Debian and Ubuntu: apt install python3-venv)"; \
	fi; \
	echo "making .venv with $$python and installing into it: about 3 GB, a few minutes"; \
	"$$python" -m venv $(CLEAR) .venv >&2 || fail "$$python could not make .venv"; \
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev,docs]' -c constraints.txt >.venv/pip.log 2>&1 || \
	  fail "pip could not install (its output is in .venv/pip.log): $$(sed -n 's/^ *ERROR: //p' .venv/pip.log | tail -n 1)"; \
	echo "$$python" >$@
