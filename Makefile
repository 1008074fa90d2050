# python scripts/host.py and python scripts/demo.py do the same where there is no make.
PYTHON ?= python3
HOST := $(PYTHON) scripts/host.py

.PHONY: host demo test test-oldest lint

host:
	$(HOST)

demo:
	$(PYTHON) scripts/demo.py $(ARGS)

lint:
	$(HOST) run -m ruff check .
	$(HOST) run -m ruff format --check .

test: lint
	$(HOST) run -m pytest $(ARGS)

# What is built on diffusers, with the oldest diffusers that requirements.txt allows.
test-oldest:
	$(HOST) run-oldest -m pytest tests/core/models tests/core/checkpoints $(ARGS)
