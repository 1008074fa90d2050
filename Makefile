# python scripts/host.py and python scripts/demo.py do the same where there is no make.
PYTHON ?= python3
HOST := $(PYTHON) scripts/host.py

.PHONY: host demo test test-oldest lint check-pictures

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
OLDEST := models checkpoints/test_key_maps.py diffusion/test_schedule.py test_autoencoder.py test_denoiser.py test_text.py \
	test_pipeline.py
test-oldest:
	$(HOST) run-oldest -m pytest $(OLDEST:%=tests/core/%) $(ARGS)

# By hand, half a minute a pair: strangers' portraits and drivers with default settings, measured, with sheets to look at.
check-pictures:
	$(HOST) run -m training.check_pictures $(ARGS)
