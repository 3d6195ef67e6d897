# Encore: the words a person types. Each sets up by itself; ARGS="..." adds options to the command.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON   ?= python3.11
VENV     ?= .venv
DATASET  ?= demo
MODE     ?= gnn
ARGS     ?=
export ENCORE_STORE ?= ./stores

encore := $(VENV)/bin/encore
ready  := $(VENV)/.ready

# A variable that is set becomes an option.
store    := $(if $(STORE),--store '$(STORE)')
data     := $(if $(DATA),--data '$(DATA)')
backbone := $(if $(BACKBONE),--backbone '$(BACKBONE)')
weights  := $(if $(WEIGHTS),--weights '$(WEIGHTS)')
device   := $(if $(DEVICE),--device '$(DEVICE)')
regime   := $(if $(REGIME),--regime '$(REGIME)')
regimes  := $(if $(REGIME),--regimes '$(REGIME)')
mode     := $(if $(filter command line,$(origin MODE)),/$(MODE))
modes    := $(if $(filter command line,$(origin MODE)),--modes '$(MODE)')
seeds    := $(if $(SEEDS),--seeds '$(SEEDS)')

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  DATASET= BACKBONE= MODE= REGIME= SEEDS= DATA= STORE= WEIGHTS= DEVICE= ARGS="
	@echo "  e.g. make embed DATASET=mtg DATA=/music/mtg WEIGHTS=fcn.pth"
	@echo "       make head DATASET=mtg MODE=dropedge"
	@echo "       make predict DATASET=mtg FILES='one.mp3 two.mp3'"

$(ready): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there; name another by PYTHON= (3.11 has all of Encore)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $(ready)

.PHONY: setup
setup: $(ready) ## make the virtual environment and install

demo_modes := song,artist,artist-embedding,gnn,dropedge,correct-and-smooth,label-propagation,random-features,sgc

.PHONY: demo
demo: $(ready) ## generate a synthetic collection, encode it, train heads
	$(encore) embed demo --backbone pianoroll $(store) $(device)
	$(encore) embed demo --backbone mfcc $(store) $(device)
	$(encore) compare demo --backbone pianoroll --modes $(demo_modes) $(store) $(device)
	$(encore) compare demo --backbone mfcc --modes song,artist,gnn,gated --regimes random,artist $(store) $(device)
	$(encore) predict $$(ls data/demo/midi/*.mid | sed -n '1p;200p;400p') --head demo $(store) $(device)
	@echo; echo "next: make report, make head MODE=gat SEEDS=3"

.PHONY: embed
embed: $(ready) ## encode DATASET into the store, once
	$(encore) embed '$(DATASET)' $(backbone) $(weights) $(data) $(store) $(device) $(ARGS)

.PHONY: train
train: $(ready) ## train BACKBONE on DATASET; writes the weights that embed reads
	$(encore) train '$(BACKBONE)' --dataset '$(DATASET)' $(data) $(store) $(device) $(ARGS)

.PHONY: head
head: $(ready) ## train one head (MODE) on what is stored
	$(encore) head '$(DATASET)' $(backbone) --mode '$(MODE)' $(regime) $(seeds) $(store) $(device) $(ARGS)

.PHONY: predict
predict: $(ready) ## ask a head of DATASET (its best, or MODE) about FILES
	$(encore) predict $(FILES) --head '$(DATASET)$(mode)' $(weights) $(store) $(device) $(ARGS)

.PHONY: serve
serve: $(ready) ## answer over HTTP, with a page, by a head of DATASET
	$(encore) serve --head '$(DATASET)$(mode)' $(weights) $(store) $(device) $(ARGS)

.PHONY: compare
compare: $(ready) ## train all heads and print one table
	$(encore) compare '$(DATASET)' $(backbone) $(modes) $(regimes) $(seeds) $(store) $(device) $(ARGS)

.PHONY: report
report: $(ready) ## what lies behind the scores of stored runs; writes report.html
	$(encore) report '$(DATASET)' $(backbone) $(regime) $(store) --html report.html
	$(encore) report '$(DATASET)' $(backbone) $(regime) $(store) $(ARGS)

.PHONY: audit
audit: $(ready) ## count DATASET: songs, edges, homophily, what splits share
	$(encore) audit '$(DATASET)' $(data) $(store) $(ARGS)

.PHONY: test
test: $(ready) ## run the tests
	@# Without bytecode each process of a run would compile all modules, and rewrite all tests, anew. Of three workers on
	@# two cores one often waits for a process that it has started.
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 3 --dist worksteal $(ARGS)

.PHONY: check
check: $(ready) ## format, lint, types
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

.PHONY: soak
soak: $(ready) ## kill, flip and feed rubbish for minutes; ARGS=--short
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m tests.soak $(ARGS)

.PHONY: bench
bench: $(ready) ## measure, side by side with peers; writes bench.json
	$(VENV)/bin/python -m tests.bench $(ARGS)

.PHONY: study
study: $(ready) ## train the backbones on generated music; what it gives
	$(VENV)/bin/python -m tests.study $(ARGS)

.PHONY: golden
golden: $(ready) ## write the numbers that tests hold anew (no old store)
	$(VENV)/bin/python -m tests.golden

.PHONY: clean
clean: ## remove the virtual environment (stores and data stay)
	rm -rf $(VENV)
