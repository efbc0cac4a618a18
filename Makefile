# `make serve` and `make test` are the two commands; `make help` lists the rest.

VENV   := .venv
VLLM   := .venv-vllm
CLIENTS := .venv-clients
BIN    := $(VENV)/bin
PYTHON ?= python3
# The interpreters of test-wheel: those of these two that are installed.
PYTHONS ?= $(shell for name in python3.11 python3.13; do $$name -c '' 2>/dev/null && echo $$name; done; true)
PROTOS := $(wildcard protos/sparseclip/v1/*.proto)
# Others' contract, which the server alone speaks: callers have its code already.
OPEN_INFERENCE := serving/rpc/open_inference/open_inference.proto
ROOMS  := bundle protos training mllm_adapter serving benchmarks examples docs
PROTOC  = $(BIN)/python -m grpc_tools.protoc -Iprotos -I.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help serve test lint types protos pytest test-explore test-browser test-clients test-gpu test-tensorrt test-vllm test-soak test-llm test-wheel wheels format docs docs-serve proto proto-release train-demo train-chat evaluate bench quality steering clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

HTTP ?= 8080
serve: $(VENV)/$(if $(filter off,$(CHAT)),.serve,.chat) ## Serve the demo bundle on localhost:50051 and http://localhost:8080 (HTTP=port, or off)
	$(BIN)/sparseclip serve $(if $(CHAT),--chat $(CHAT)) $(if $(filter off,$(HTTP)),,--http-port $(HTTP)) $(ARGS)

test: lint types protos pytest ## Everything that must pass before a commit

lint: $(VENV)/.dev ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy --strict $(ROOMS)

protos: build/protos.binpb ## buf lint, and buf breaking against the released contract
	$(BIN)/buf lint build/protos.binpb --config protos/buf.yaml
	$(BIN)/buf breaking build/protos.binpb --against protos/released.binpb --config protos/buf.yaml

# Files run in the order of their names: by the number of tests, which is the default, the files with
# one long test would run last, each alone.
# Tests of deadlines and of load may fail beside others on a slow machine: what fails is tried alone.
LIGHT  := -m "not browser and not clients and not gpu and not vllm and not soak"
pytest: $(VENV)/.dev ## The tests, on at most four cores; what fails there is tried again alone
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(LIGHT) $(ARGS) \
	|| $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(LIGHT) $(ARGS)

test-explore: $(VENV)/.dev ## The tests of hypothesis with other and more examples than make test
	$(BIN)/python -m pytest -n auto --maxprocesses 4 -m hypothesis --hypothesis-profile explore $(ARGS)

test-gpu: $(VENV)/.dev ## The tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

test-clients: $(VENV)/.dev $(CLIENTS)/.ready ## Clients of Triton, KServe, infinity, LangChain and LlamaIndex call the server, from .venv-clients (700 MB)
	$(BIN)/python -m pip install --quiet -c constraints.txt mteb==2.26.24
	$(BIN)/python -m pytest -m clients $(ARGS)

test-vllm: $(VLLM)/.ready ## vLLM beside transformers, in .venv-vllm (2.6 GB)
	$(VLLM)/bin/python -m pytest -m vllm tests/mllm_adapter/engines $(ARGS)

test-tensorrt: $(VENV)/.dev ## TensorRT reads and builds graphs, without a GPU (adds 260 MB to .venv)
	$(BIN)/python -m pip install --quiet tensorrt-rtx cuda-bindings
	$(BIN)/python -m pytest tests/serving/engines/test_tensorrt_engine.py $(ARGS)

test-soak: $(VENV)/.dev ## The tests that take long: an export killed 200 times, Ray's nodes and replicas (minutes)
	$(BIN)/python -m pip install --quiet -c constraints.txt 'ray[serve]'
	$(BIN)/python -m pytest -m soak $(ARGS)

test-browser: $(VENV)/.dev build/axe/package/axe.min.js ## The studio in Chromium, with axe-core; writes its screenshots into docs/assets
	SPARSECLIP_ASSETS=docs/assets $(BIN)/python -m pytest -m browser tests/serving/studio $(ARGS)

build/axe/package/axe.min.js:  # of npm, MPL-2.0: not part of what we ship
	rm -rf build/axe && mkdir -p build/axe
	cd build/axe && npm pack --silent axe-core@4.14.1 && tar -xzf axe-core-4.14.1.tgz

test-llm: $(VENV)/.dev ## Fetch the real SmolLM2 and test with it (93 MB)
	$(BIN)/sparseclip llm fetch smollm2
	$(BIN)/python -m pytest tests/mllm_adapter/model/test_smollm2.py $(ARGS)

wheels: $(VENV)/bin/python ## Build the wheels of sparseclip and of its demo bundle into dist/
	rm -rf build/lib build/bdist.* packages/demo/build dist/sparseclip*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist . ./packages/demo

test-wheel: wheels ## Serve from the wheels in empty environments: make test-wheel PYTHONS="python3.11 python3.13"
	$(BIN)/python -m tests.packaging.wheel_trial $(PYTHONS)

format: $(VENV)/.dev ## Rewrite the code as ruff formats it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev ## Build the documentation site into build/site; broken links fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict $(ARGS)

docs-serve: $(VENV)/.dev ## Show the documentation site while you write it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

proto: $(VENV)/.dev ## Regenerate the Python beside the .proto files, and the blocking client
	$(PROTOC) --python_out=protos --pyi_out=protos --grpc_python_out=protos $(PROTOS)
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. $(OPEN_INFERENCE)
	$(BIN)/python protos/generate_sync.py

proto-release: build/protos.binpb ## Make today's contract the one that later ones must not break
	cp build/protos.binpb protos/released.binpb

build/protos.binpb: $(PROTOS) $(OPEN_INFERENCE) $(VENV)/.dev
	@mkdir -p build
	$(PROTOC) --descriptor_set_out=$@ --include_imports --include_source_info $(PROTOS) $(OPEN_INFERENCE)

train-demo: $(VENV)/.dev ## Build the demo data and train the shipped model again (about half an hour)
	$(BIN)/sparseclip data build demo-research
	$(BIN)/sparseclip data build demo
	$(BIN)/sparseclip data encoder
	SPARSECLIP_DATA=data/build/demo $(BIN)/python -m pytest tests/training/data/test_split.py
	SPARSECLIP_DATA=data/build/demo-research $(BIN)/python -m pytest tests/training/data/test_split.py tests/training/evaluation/test_minilm.py
	$(BIN)/sparseclip train demo $(ARGS)
	$(BIN)/sparseclip train demo_fine $(ARGS)

train-chat: $(VENV)/.dev ## Train the shipped bundle's chat again (an hour)
	$(BIN)/sparseclip data build demo
	$(BIN)/sparseclip adapter train demo $(ARGS)
	$(BIN)/python -m pytest tests/mllm_adapter/data/test_easy_vqa.py

evaluate: $(VENV)/.dev ## Measure a checkpoint: make evaluate ARGS="..."
	$(BIN)/sparseclip evaluate $(ARGS)

bench: $(VENV)/.dev ## Speed, about an hour: make bench ARGS="--list" shows the steps
	$(BIN)/python -m benchmarks.suite $(ARGS)

quality: $(VENV)/.dev ## Sparse beside dense, three seeds: hours (make quality ARGS="--arms cls stacked")
	$(BIN)/python -m benchmarks.quality $(ARGS)

steering: $(VENV)/.dev ## How the shipped adapter answers and is steered, on held-out images (minutes)
	rm -f benchmarks/results/steering_quality.png
	$(BIN)/sparseclip evaluate steering --json --plot benchmarks/results/steering_quality.png $(ARGS) > benchmarks/results/steering_quality.jsonl

clean: ## Remove what the tools leave behind, not .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info packages/demo/build packages/demo/*.egg-info

# `make serve` in a fresh clone installs what a server needs, `make test` adds the rest to the same
# place. Chat needs torch; `make serve CHAT=off` leaves both out. torch is named in the same command as
# all that depends on it: a later command would replace a CPU build by the newest CUDA one.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml constraints.txt | $(VENV)/bin/python
	test -e $(VENV)/.dev || $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[serve,http]'
	touch $@

$(VENV)/.chat: pyproject.toml constraints.txt | $(VENV)/bin/python
	test -e $(VENV)/.dev || $(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0 -e '.[chat,http]'
	touch $@ $(VENV)/.serve

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0 torchvision==0.28.0 -e '.[train,import,chat,http,tracing,torch,export,index,lance,ray,zarr,quantize,sentence-transformers,mcp,dev]'
	touch $@ $(VENV)/.serve $(VENV)/.chat

# vLLM for a CPU. Its processes import torchvision by themselves, so the cure of
# training/core/torchvision_compat.py comes with the interpreter there.
$(VLLM)/.ready: requirements-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --no-deps -r requirements-vllm.txt
	$(VLLM)/bin/python -m pip install --quiet --no-deps -e .
	$(VLLM)/bin/python -c "import site; open(site.getsitepackages()[0] + '/torchvision_operators.pth', 'w').write('import training.core.torchvision_compat; training.core.torchvision_compat.define_operators()')"
	touch $@

# Clients of others, which pin older versions of what the server needs.
$(CLIENTS)/.ready: requirements-clients.txt
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --no-deps -r requirements-clients.txt
	touch $@
