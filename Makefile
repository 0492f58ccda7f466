# make demo           fine-tunes the embedded model on handwritten digits
# make test           tests every part, within a quarter of an hour on two cores
# make test-slow      tests what takes longer: runs that are killed or shared out, studies, fuzzing
# make coverage       runs what make test does, and lists the lines that nothing reaches
# make test-peers     compares with timm and transformers, which take gigabytes
# make test-backends  runs on torch and on JAX without TensorFlow; torch takes gigabytes
# make test-oldest    runs the core tests with the lowest versions that pyproject.toml allows
# make test-package   installs the wheel alone into a fresh environment and runs the demo there
# make package        writes dist/: the source archive and the wheel
# make bench          measures speed and memory beside the peers (DEVICE=gpu: what a GPU can)
# make lint           checks formatting, style and who imports whom
# make docs           builds the site in build/site
# make lock           writes requirements.txt anew
# All share .venv, made at first use with the versions of requirements.txt.

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := .venv/bin

.PHONY: demo test test-slow coverage test-peers test-backends test-oldest test-package package bench lint docs lock clean
.DELETE_ON_ERROR:

demo: .venv/demo
	$(BIN)/bit-finetune

PYTEST = pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=0
QUICK = -m "not slow and not peers and not backends"
test: .venv/test
	$(BIN)/python -m $(PYTEST) $(QUICK)

test-slow: .venv/test
	$(BIN)/python -m $(PYTEST) -m slow

# Also in the processes that tests start.
coverage: .venv/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "coverage>=7.10"
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m $(PYTEST) $(QUICK)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

# PEERS_PYTHON names a Python that has torch, torchvision, timm, transformers and openvino already.
test-peers: .venv/test $(if $(PEERS_PYTHON),,.venv/peers/installed)
	PEERS_PYTHON=$(or $(PEERS_PYTHON),.venv/peers/bin/python) $(BIN)/python -m pytest -m peers

# BACKENDS_PYTHON names a Python that has torch and what else is installed below already.
test-backends: .venv/test $(if $(BACKENDS_PYTHON),,.venv/backends/installed)
	BACKENDS_PYTHON=$(or $(BACKENDS_PYTHON),.venv/backends/bin/python) \
		$(BIN)/python -m pytest -m backends

CORE = layers fast_paths resnet_v2 hyperrule arrays directory checkpoints zoo training \
	optimizer fine_tuning contact_sheet reporting packages package
test-oldest: .venv/oldest/installed
	.venv/oldest/bin/python -m pytest $(CORE:%=tests/test_%.py)

test-package: package
	rm -rf .venv/package
	$(BIN)/python -m venv .venv/package
	.venv/package/bin/python -m pip install --quiet --disable-pip-version-check \
		-c requirements.txt dist/*.whl
	cd .venv/package && bin/python -c "$$IMPORT_EVERYTHING"
	cd .venv/package && for program in bin/bit-*; do $$program --help > /dev/null || exit 1; done
	cd .venv/package && bin/bit-finetune

define IMPORT_EVERYTHING
import importlib, pkgutil, bit_keras
for module in pkgutil.walk_packages(bit_keras.__path__, "bit_keras."):
    if not module.name.startswith("bit_keras.cli."):  # programs, whose flags have names in common
        importlib.import_module(module.name)
endef
export IMPORT_EVERYTHING

package: .venv/test
	rm -rf dist
	$(BIN)/pip install --quiet build
	$(BIN)/python -m build

# BENCH holds flags that all programs have: make bench BENCH=--rounds=9
DEVICE ?= cpu
BENCHMARK = PEERS_PYTHON=$(or $(PEERS_PYTHON),.venv/peers/bin/python) $(BIN)/python benchmarks
bench: .venv/test $(if $(PEERS_PYTHON),,.venv/peers/installed)
	$(BENCHMARK)/forward.py --device=$(DEVICE) $(BENCH)
	$(BENCHMARK)/training_step.py --device=$(DEVICE) $(BENCH)
ifeq ($(DEVICE),cpu)
	$(BENCHMARK)/first_step.py $(BENCH)
	$(BENCHMARK)/load.py $(BENCH)
	$(BENCHMARK)/linear_cost.py $(BENCH)
	$(BENCHMARK)/memory.py $(BENCH)
	$(BENCHMARK)/finetune.py $(BENCH)
endif

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: .venv/test
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra test --extra docs --universal \
		--python-version 3.10 --upgrade --no-annotate --custom-compile-command "make lock" \
		--quiet --output-file requirements.txt

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.13 is needed and none was found;\
	 name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e .
	@touch $@

.venv/test: .venv/demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e ".[test]"
	@touch $@

.venv/docs: .venv/demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e ".[docs]"
	@touch $@

.venv/oldest/installed: .venv/test
	$(BIN)/pip install --quiet uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/oldest
	$(BIN)/uv pip install --quiet --python .venv/oldest/bin/python --resolution lowest-direct -e .
	$(BIN)/uv pip install --quiet --python .venv/oldest/bin/python pytest
	@touch $@

.venv/peers/installed: .venv/bin/python
	$(BIN)/python -m venv .venv/peers
	.venv/peers/bin/python -m pip install --quiet --disable-pip-version-check \
		torch torchvision timm transformers openvino
	@touch $@

.venv/backends/installed: .venv/bin/python
	$(BIN)/python -m venv .venv/backends
	.venv/backends/bin/python -m pip install --quiet --disable-pip-version-check \
		-c requirements.txt torch jax keras numpy pillow safetensors huggingface-hub \
		scikit-learn tqdm wrapt
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info
