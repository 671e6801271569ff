# make demo   segments the shipped images with the shipped model
# make test   runs the tests on TensorFlow, on JAX and, where it is installed, on PyTorch
# make docs   builds the documentation into site/
PYTHON ?= python3
VENV ?= .venv
RESULTS ?= results/demo
BIN := $(VENV)/bin
# Two processes that compute on one core each: building graphs takes one, and most tests do little else. Files go out in
# the order of tests/conftest.py, the longest first. Processes that tests start need not compile the sources again.
PARALLEL ?= -n 2 --dist loadfile --no-loadscope-reorder
TEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 $(BIN)/python -m pytest $(PARALLEL)
# JAX's networks are tiny here, and compiling them takes far longer than running them: with little optimisation, and each
# but once for all processes.
JAX_CACHE := JAX_COMPILATION_CACHE_DIR=$(abspath $(VENV))/.jax-cache \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
JAX_COMPILER := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true" $(JAX_CACHE)

READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready

.PHONY: demo test lint docs clean

demo: $(READY)
	$(BIN)/nucleus detect --dataset=samples/nucleus/data --subset=stage1_train --output=$(RESULTS) --overwrite
	@echo
	@echo "Scores of the shipped images that the model was not trained on:"
	@$(BIN)/nucleus evaluate --dataset=samples/nucleus/data --subset=val --predictions=$(RESULTS)/labels --output=$(RESULTS)
	@echo "Pictures: $(RESULTS)/overlays"

test: $(READY) lint
	KERAS_BACKEND=tensorflow $(TEST)
	KERAS_BACKEND=jax $(JAX_COMPILER) $(TEST) -m backend
	if $(BIN)/python -c "import torch" 2>/dev/null; then KERAS_BACKEND=torch $(TEST) -m backend; fi

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(READY): requirements.txt setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[test,jax]"
	touch $@

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) $(RESULTS) build site *.egg-info
