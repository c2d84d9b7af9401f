# A fresh machine needs Python and make. The first target that needs it makes .venv and installs
# into it. `make PYTHON=/path/to/python test` installs for that interpreter.

PYTHON =
SUPPORTED = (3, 11) <= sys.version_info[:2] <= (3, 13)
# 3.11 comes first: tensorflow-addons has no wheels for newer ones.
CANDIDATES = python3.11 python3.12 python3.13 python3 python
BIN = .venv/bin
INSTALLED = .venv/installed-for
DEVELOPED = .venv/installed-dev
# One process per core. A file's tests share fixtures, so they stay in one process.
PARALLEL = --numprocesses=auto --dist=loadfile --no-loadscope-reorder

ifneq ($(PYTHON),)
CANDIDATES = "$(PYTHON)"
ifneq ($(PYTHON),$(shell cat $(INSTALLED) 2>/dev/null))
CLEAR = --clear
$(INSTALLED): other-python
endif
endif

.PHONY: help demo try test test-all lint docs other-python

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: $(INSTALLED) ## run every stage on synthetic faces
	@$(BIN)/python tools/make_faces.py --output=demo/faces --identities=500 --images_per_identity=12 --image_size=80 --seed=1
	@$(BIN)/python -m fv.quickstart --images=demo/faces --output=demo --backbone=inception_v3 --minutes=6 --steps=180 --convert_flags=--pairs=13000

try: $(INSTALLED) ## train on your images: make try IMAGES=FOLDER, a folder for each person
	@test -n "$(IMAGES)" || { echo 'make: name the folder of images: make try IMAGES=FOLDER' >&2; exit 1; }
	@$(BIN)/python -m fv.quickstart --images="$(IMAGES)"

test: $(DEVELOPED) ## run the tests that take up to five seconds each
	@$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-all: $(DEVELOPED) ## run all tests
	@$(BIN)/python -m pytest $(PARALLEL)

lint: $(DEVELOPED) ## check style, format and types
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy

docs: $(DEVELOPED) ## build the documentation site in site/; a dead link fails
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# uv is several times as fast as pip. Either writes its output into a log, of which an error is shown.
comma = ,
install = if command -v uv >/dev/null; then set -- uv pip install --python $(BIN)/python; \
	else set -- $(BIN)/python -m pip install --disable-pip-version-check; fi; \
	"$$@" -e '$(1)' -c constraints.txt >.venv/install.log 2>&1 || \
	  fail "$$1 could not install (its output is in .venv/install.log): $$(grep -i error .venv/install.log | tail -n 1)"

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
	echo "making .venv with $$python and installing into it: 2.5 GB, one to three minutes"; \
	"$$python" -m venv $(CLEAR) .venv >&2 || fail "$$python could not make .venv"; \
	$(call install,.[serve]); \
	echo "$$python" >$@

$(DEVELOPED): $(INSTALLED)
	@echo "installing what tests and documentation need: 1 GB more, one to three minutes"; \
	fail() { echo "make: $$1" >&2; exit 1; }; \
	$(call install,.[dev$(comma)docs]); \
	touch $@
