# Each target makes and fills .venv itself; PYTHON is the interpreter it starts from.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Compiled modules are kept, so that the interpreters that tests start need not compile them again.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-slow test-all test-dist test-triton fuzz check bench bench-gpu gpu-report figures clean

.venv/run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[all]'
	touch $@

.venv/test: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e '.[test]'
	touch $@

demo: .venv/run ## simulate the C. elegans connectome; recording and figures in demo/
	$(BIN)/sparse-mrnn demo --out demo --overwrite

test: .venv/test ## the tests that answer in three minutes on two cores
	$(BIN)/python -m pytest -q -n auto --dist worksteal

test-slow: .venv/test ## the tests marked slow
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m 'slow and not gpu and not dist'

test-all: test test-slow test-dist ## every test

test-dist: .venv/test ## networks on two and four processes
	$(BIN)/python -m pytest -q -m dist -n 0

test-triton: .venv/test ## the kernels in Triton, interpreted, and compiled for GPUs; installs triton, 1 GB
	$(PIP) triton
	TRITON_INTERPRET=1 $(BIN)/python -m pytest -q -n 0 tests/ops/test_triton_kernels.py
	$(BIN)/python -m pytest -q -n 0 -m '' tests/ops/test_triton_kernels.py

fuzz: .venv/test ## mutated files, in child processes with limits of memory and time; CASES=number SEED=number
	cd tests && ../$(BIN)/python -m fuzz --cases $(or $(CASES),20000) --seed $(or $(SEED),0)

check: .venv/test ## linter, type checker, docs
	$(BIN)/ruff check .
	$(BIN)/mypy
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir .venv/site

bench: .venv/run ## measure, and refresh docs/benchmarks.md and the tables of docs/large_runs.md and its figure
	$(BIN)/python benchmarks/page.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/simulation.py --write docs/large_runs.md

bench-gpu: .venv/run ## the same on a CUDA device; writes docs/benchmarks-gpu.md
	$(BIN)/python benchmarks/page.py --device cuda --write docs/benchmarks-gpu.md

gpu-report: ## on a machine with a GPU, with its own Python and torch and no network; WHEELS=folder of missing wheels
	$(PYTHON) benchmarks/gpu_report.py --device cuda --out gpu-report $(if $(WHEELS),--wheels $(WHEELS))

figures: .venv/run ## redraw the figures of the docs from real runs; FLYVIS=fib25-fib19_v2.2.json (and ENSEMBLE=ensemble_0000.npz) for those of the fly, too; and with wormneuroatlas installed that of the worm's responses
	$(BIN)/python docs/figures/make_figures.py
	$(BIN)/python docs/figures/tutorial_figures.py
	$(BIN)/python docs/figures/gallery_figures.py
	$(BIN)/python docs/figures/training.py
	$(BIN)/python docs/figures/simulation_figures.py
	$(BIN)/python docs/figures/spiking_figures.py
	$(BIN)/python docs/figures/celegans_gains.py
	$(BIN)/python docs/figures/currents.py
	$(BIN)/python docs/figures/mechanism_currents.py
	$(BIN)/python docs/figures/mechanism_connectome.py
	if $(BIN)/python -c 'import sys, importlib.util as u; sys.exit(not u.find_spec("wormneuroatlas"))'; then $(BIN)/python docs/figures/worm_propagation.py; fi
	$(BIN)/python docs/figures/analysis_figures.py
	$(BIN)/python docs/figures/spectral_figures.py
	$(BIN)/python docs/figures/architecture.py
	$(if $(FLYVIS),$(BIN)/python docs/figures/connectome_figures.py $(FLYVIS))
	$(if $(FLYVIS),$(BIN)/python docs/figures/hex_motion.py $(FLYVIS))
	$(if $(and $(FLYVIS),$(ENSEMBLE)),$(BIN)/python docs/figures/flyvis_ensemble.py $(FLYVIS) $(ENSEMBLE))

clean:
	rm -rf .venv demo site build *.egg-info
