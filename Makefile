# make demo: train a small encoder on text that every Python installation holds, and show what it learned
# make test: everything that continuous integration runs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
COMPAT := $(VENV)/compat-4.51.3

.PHONY: demo test check compat clean

demo: $(VENV)/.installed
	rm -rf runs/demo
	$(BIN)/maskwright train recipes/tiny.yaml --run runs/demo

# Files in their own order: xdist would leave those with few tests, which are the slow ones, to the end.
test: check compat
	$(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

$(VENV)/.installed: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[trackers]'
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The oldest transformers that an exported model must load in, beside the pinned one.
compat: $(COMPAT)/.installed

$(COMPAT)/.installed: $(VENV)/.tested
	rm -rf $(COMPAT)
	$(BIN)/pip install --quiet --no-deps --target $(COMPAT) transformers==4.51.3 tokenizers==0.21.4 \
		huggingface_hub==0.36.0 requests urllib3 charset-normalizer idna certifi
	touch $@

clean:
	rm -rf $(VENV) runs
