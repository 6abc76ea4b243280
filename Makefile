# The targets that people and CI both call. PYTHON picks the interpreter, such as `make test PYTHON=python3.12`.
PYTHON ?= python

.PHONY: setup check test bench docs

setup:  ## install the package, editable, with all that development needs
	$(PYTHON) -m pip install -e ".[dev]"

check:  ## lint, format and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

test:  ## every test, the slowest listed
	$(PYTHON) -m pytest -n auto --dist loadfile --max-worker-restart 0 --durations=15

bench:  ## time and memory beside the other tools; needs an hour of a quiet machine
	weights=$$($(PYTHON) -c "from gen_eval.extractors.inception_weights import WEIGHTS; from gen_eval.fetch import fetch; print(fetch(WEIGHTS))") \
	  && $(PYTHON) benchmarks/fid.py --weights "$$weights"

docs:  ## the page of what each metric sees, from real images; an hour
	$(PYTHON) benchmarks/sensitivity.py --n 500
