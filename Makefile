# Two commands matter: `make demo` shows the main job, `make test` proves it. Everything is installed inside the checkout.
SHELL := /bin/bash
.DELETE_ON_ERROR:

UV      := .boot/bin/uv
PY      := .venv/bin/python
NODE    := $(CURDIR)/tools/node/node_modules/.bin
HARDHAT := PATH="$(NODE):$$PATH" npx --no -- hardhat
FOUNDRY := PATH="$(NODE):$$PATH" node tools/security/foundry.mjs
LLAMA   := -DGGML_NATIVE=OFF;-DLLAVA_BUILD=OFF;-DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/tools/llama/lean.cmake
# processes of pytest: make python WORKERS=8 where there are more cores
WORKERS := 2
say     = @printf '\033[1m==>\033[0m %s\n' $(1)

.PHONY: help demo test unit lint types contracts security test-deep fuzz python package bench gas setup setup-demo lock clean
help:            ## list the targets
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: setup-demo ## run the main job on the sample model, from a model directory to text on another machine
	@$(PY) scripts/demo.py

test: setup lint types contracts security python package ## everything: lint, types, contracts and what proves them, real servers, the wheel

unit: setup-demo ## the tests that need no network, no server and no model's runtime (under a minute)
	@$(PY) -m pytest -q -m "not servers and not models" -n $(WORKERS) --dist loadgroup

lint: setup-demo ## ruff
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

types: setup-demo ## mypy, strict
	@$(PY) -m mypy

contracts: setup-demo ## Solidity unit and fuzz tests; committed artifacts and gas equal a fresh build
	@PATH="$(NODE):$$PATH" node scripts/build_contracts.mjs --check
	@$(HARDHAT) test solidity
	@$(HARDHAT) --build-profile legacy test solidity
	@$(PY) bench/gas.py --check

security: setup-demo .setup/security ## how the contracts are proved: slither, coverage, one corpus, symbolic checks, random calls
	@PATH="$(NODE):$$PATH" $(PY) tools/security/slither.py
	@PATH="$(NODE):$$PATH" $(PY) tools/security/coverage.py
	@FOUNDRY_TEST=tests/corpus $(FOUNDRY) forge test && FOUNDRY_TEST=tests/corpus $(FOUNDRY) --legacy forge test
	@FOUNDRY_TEST=tests/symbolic FOUNDRY_OUT=cache/foundry/symbolic $(FOUNDRY) --legacy halmos --root . \
		--config tools/security/halmos.toml --forge-build-out cache/foundry/symbolic
	@PATH="$(NODE):$$PATH" $(PY) tools/security/invariants.py

test-deep: setup .setup/security ## an hour of random calls: a million against the invariants, thousands of sequences against the models
	@PATH="$(NODE):$$PATH" $(PY) tools/security/invariants.py --deep
	@CITRATE_DIFFERENTIAL=500 $(PY) -m pytest -q -s tests/differential

fuzz: setup      ## atheris explores every reader of untrusted bytes, SECONDS_EACH=60 each
	@mkdir -p .fuzz && FUZZ_CRASHES=.fuzz $(PY) tests/fuzz/run.py long $(or $(SECONDS_EACH),60)

python: setup    ## the Python tests, with real Anvil, Kubo and llama.cpp
	@$(PY) -m compileall -q citrate  # the tests start hundreds of processes, also where Python may write no cache
	@$(PY) -m pytest -q -n $(WORKERS) --dist loadgroup

package: setup-demo ## build the wheel and run it outside the checkout
	@$(PY) tools/check_wheel.py

bench: setup     ## every benchmark against its reference tool (long)
	@for b in bench/cli.py bench/gas.py bench/gas_others.py bench/add.py bench/store_add.py bench/small_files.py bench/pull.py bench/convert.py bench/register.py bench/car.py bench/push.py bench/reuse.py bench/train.py bench/verify_training.py bench/merge.py bench/memory.py; do $(PY) $$b || exit 1; done

# ---- setup: each stamp is older than nothing it depends on; a second run does nothing
setup-demo: .setup/tools .setup/venv .setup/npm
setup: setup-demo bin/ipfs

.setup/tools: tools/require.sh
	@mkdir -p .setup && bash tools/require.sh python3.11 node npm gcc && touch $@

$(UV): | .setup/tools
	$(call say,"uv 0.13.8 into .boot/")
	@$$(command -v python3.11 || command -v python3) -m venv .boot && .boot/bin/pip install -q --disable-pip-version-check uv==0.13.8

.setup/venv: requirements.lock pyproject.toml tools/llama/lean.cmake | $(UV)
	$(call say,"Python packages into .venv/ (first time: 5 GB and llama.cpp is compiled: about 3 minutes)")
	@test -x $(PY) || $(UV) venv -q --python 3.11 .venv
	@$(UV) pip sync --compile-bytecode --require-hashes --python $(PY) "--config-settings-package=llama-cpp-python:cmake.args=$(LLAMA)" requirements.lock
	@$(UV) pip install -q --python $(PY) --no-deps --no-build-isolation -e .
	@touch $@

.setup/node: tools/node/package-lock.json | .setup/tools
	$(call say,"Node 22 for Hardhat into tools/node/")
	@npm ci --prefix tools/node --silent && touch $@

.setup/npm: package-lock.json .setup/node
	$(call say,"Hardhat with solc and Anvil and OpenZeppelin into node_modules/")
	@PATH="$(NODE):$$PATH" npm ci --silent && touch $@

.setup/security: tools/security/requirements.lock tools/security/package-lock.json .setup/npm | $(UV)
	$(call say,"slither and halmos into .venv-security/ and forge into tools/security/")
	@test -x .venv-security/bin/python || $(UV) venv -q --python 3.11 .venv-security
	@$(UV) pip sync -q --require-hashes --python .venv-security/bin/python tools/security/requirements.lock
	@PATH="$(NODE):$$PATH" npm ci --prefix tools/security --silent && touch $@

bin/ipfs: tools/kubo/go.mod tools/kubo/go.sum
	@bash tools/require.sh go
	$(call say,"Kubo 0.42 from its Go module into bin/ (first time: about 3 minutes)")
	@cd tools/kubo && GOBIN=$(CURDIR)/bin go install -trimpath -ldflags='-s -w' tool
	@touch $@

lock:            ## resolve the dependencies again
	@$(UV) pip compile -q --generate-hashes --no-emit-index-url --no-header --override tools/overrides.txt --python-version 3.11 --extra dev pyproject.toml -o requirements.lock
	@npm install --package-lock-only --silent && node tools/complete-lock.mjs package-lock.json
	@npm install --prefix tools/node --package-lock-only --silent && node tools/complete-lock.mjs tools/node/package-lock.json
	@$(UV) pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 tools/security/requirements.in -o tools/security/requirements.lock
	@npm install --prefix tools/security --package-lock-only --silent && node tools/complete-lock.mjs tools/security/package-lock.json

clean:           ## remove everything that setup, the demo and the tests made
	rm -rf .boot .venv .venv-security .setup bin node_modules tools/node/node_modules tools/security/node_modules artifacts cache demo-homes dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
