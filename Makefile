# `make demo` and `make test` do all set-up themselves. They need Python 3.10 to 3.12 and make.

PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& echo $$python && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# Numba keeps machine code beside the loops that it is made of, so the first run need not wait for it.
COMPILE := -c 'from models.upsampling import load_loops; load_loops()'
# Airflow wants other versions of what citymask needs, so it gets an environment of its own.
AIRFLOW_VENV ?= .venv-airflow
# What opens exports wants other versions, too; about 1.5 GB.
EXPORTS_VENV ?= .venv-exports
# What the benchmark compares citymask with; some gigabytes.
PEERS_VENV ?= .venv-peers
PEERS := benchmarks/peers-requirements.txt

.PHONY: demo test test-faults test-airflow test-exports lint bench bench-short gpu-check clean

demo: $(VENV)/installed
	$(BIN)/citymask run demo/photos --output demo-output --overlay
	@echo "masks and overlays: demo-output/masks/"
	@echo "statistics:         demo-output/statistics/"
	@echo "summary:            demo-output/summary.json and summary.csv"

# Reordered, files of few tests would come last, and those are the slowest ones.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 \
	--dist loadfile --no-loadscope-reorder
FAULTS := tests/faults

test: $(VENV)/installed-for-tests
	$(PYTEST) --ignore $(FAULTS)

# Kills, full disks and power cuts: some minutes more.
test-faults: $(VENV)/installed-for-tests
	$(PYTEST) $(FAULTS)

test-airflow: $(AIRFLOW_VENV)/installed
	$(AIRFLOW_VENV)/bin/python -m pytest --noconftest -p no:cacheprovider \
		tests/deploy/airflow_check.py

test-exports: $(VENV)/installed $(EXPORTS_VENV)/installed
	CITYMASK=$(abspath $(BIN)/citymask) $(EXPORTS_VENV)/bin/python -m pytest --noconftest \
		-p no:cacheprovider tests/pipeline/exports_check.py

lint: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# For example make bench BENCH_OPTIONS='--only throughput --repeats 3'
bench: $(VENV)/installed-for-tests $(PEERS_VENV)/tried
	$(BIN)/python benchmarks/throughput.py --peers $(PEERS_VENV)/bin/python \
		--output bench-output $(BENCH_OPTIONS)

bench-short: $(VENV)/installed-for-tests
	$(BIN)/python benchmarks/throughput.py --short

# JAX is among what the tests need. On a GPU: make gpu-check, after pip install 'jax[cuda12]'
# or 'tensorflow[and-cuda]' into the same environment.
gpu-check: $(VENV)/installed-for-tests
	$(BIN)/python benchmarks/gpu_check.py --output bench-output/gpu-check.json $(GPU_CHECK_OPTIONS)

clean:
	rm -rf $(VENV) $(AIRFLOW_VENV) $(EXPORTS_VENV) $(PEERS_VENV) demo-output bench-output test-output build *.egg-info

$(VENV)/bin/python $(AIRFLOW_VENV)/bin/python $(EXPORTS_VENV)/bin/python \
		$(PEERS_VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.10, 3.11 or 3.12 found: give one with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(@D:/bin=)
	$@ -m pip install --quiet --upgrade pip

$(VENV)/installed: $(VENV)/bin/python setup.py
	$(BIN)/python -m pip install --quiet --quiet --editable .
	$(BIN)/python $(COMPILE)
	touch $@

$(VENV)/installed-for-tests: $(VENV)/bin/python setup.py
	$(BIN)/python -m pip install --quiet --quiet --editable '.[test,lint]'
	$(BIN)/python $(COMPILE)
	touch $@ $(VENV)/installed

$(PEERS_VENV)/tried: $(PEERS_VENV)/bin/python $(PEERS)
	grep -v '^#' $(PEERS) | while read package; do \
		$< -m pip install --quiet --quiet "$$package" \
		|| echo "$$package cannot be installed: the benchmark goes without it"; done
	touch $@

$(AIRFLOW_VENV)/installed: $(AIRFLOW_VENV)/bin/python tests/deploy/airflow-requirements.txt
	$< -m pip install --quiet --quiet -r tests/deploy/airflow-requirements.txt
	touch $@

# panopticapi-lite is the code of panopticapi; it asks for an old NumPy but does not need it.
$(EXPORTS_VENV)/installed: $(EXPORTS_VENV)/bin/python tests/pipeline/exports-requirements.txt
	$< -m pip install --quiet --quiet -r tests/pipeline/exports-requirements.txt
	$< -m pip install --quiet --quiet --no-deps panopticapi-lite==0.2.0
	touch $@
