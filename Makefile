# `make demo` and `make test` are all that a newcomer needs; `make check` is most of what CI runs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find benchmarks cli codegen conformance demo functional generated interop runtime specs -type d -not -name __pycache__ | sed 's|$$|/.|')

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

demo: generate  ## install, regenerate the API, run on real data, draw a picture
	$(BIN)/normspec demo

test: $(VENV)/installed  ## everything that needs no GPU
	$(BIN)/python -m pytest

test-gpu: $(VENV)/installed  ## the CUDA kernels on a GPU, and under compute-sanitizer
	$(BIN)/python tests/on_gpu.py

generate: $(VENV)/installed  ## write generated/ from specs/
	$(BIN)/normspec generate
	@$(MAKE) --no-print-directory $(VENV)/installed  # which new files need

generate-check: $(VENV)/generator  ## fail if generated/ is not what specs/ say
	$(BIN)/normspec generate --check

conformance: $(VENV)/installed  ## the matrix of dialects and clauses, as docs/conformance.md
	$(BIN)/normspec conformance --output docs/conformance.md

docs: $(VENV)/installed  ## the site, into out/site: open out/site/index.html
	rm -rf out/site
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . out/site
	@echo "open out/site/index.html"

bench: $(VENV)/installed  ## ours against torch, ONNX Runtime, JAX and NumPy, into out/ and the pages (ten minutes)
	$(BIN)/normspec bench
	$(BIN)/python -m normspec.benchmarks.publish

bench-scaling: $(VENV)/installed  ## time and memory of ours from 1 to 10^8 values, into out/ and the pages (half a minute)
	$(BIN)/normspec bench --scaling
	$(BIN)/python -m normspec.benchmarks.publish

bench-gpu: $(VENV)/installed  ## the CUDA kernels against torch, cuDNN and torch.compile, into out/ and the pages (ten minutes, a GPU)
	$(BIN)/normspec bench-gpu; told=$$?; $(BIN)/python -m normspec.benchmarks.publish; exit $$told

kernels-check: $(VENV)/installed  ## compile every CUDA kernel for four generations of GPUs, and run PTX of some, without a GPU
	$(BIN)/normspec kernels
	$(BIN)/python -m pytest -v -m slow tests/test_kernels_machine.py

machine-check: $(VENV)/installed  ## run the PTX of all suites' kernels without a GPU, for three generations (an hour)
	$(BIN)/python -m pytest -v -m hour tests/test_kernels_machine.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy
	$(BIN)/mypy --strict docs/conf.py docs/_ext

wheel: $(VENV)/installed  ## build the wheel, install it elsewhere, import every module of it
	$(BIN)/python .ci/wheel.py

check: generate-check lint types test wheel  ## most of what CI runs; .ci/run is all of it

dev: $(VENV)/installed  ## install for development; again by itself when a file is added

# A strict editable install links the files that there are: it is made anew when a folder has changed.
$(VENV)/installed: pyproject.toml setup.py $(SOURCES)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(VENV)/generator $@

# What the generator needs is a small part of that, and soon there.
$(VENV)/generator: pyproject.toml setup.py $(SOURCES)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[codegen]"
	touch $@

clean:  ## forget the environment and everything built
	rm -rf $(VENV) build dist out *.egg-info
	find . -name '*.nb[ic]' -delete

.PHONY: bench bench-gpu bench-scaling check clean conformance demo dev docs generate generate-check help kernels-check lint machine-check test test-gpu types wheel
