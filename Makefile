# One command for each thing that people do. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# uv from the path; where there is none, one of our own in .uv/.
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
BIN := .venv/bin
READY := .venv/.ready

# Images: `make images BASE=python:3.11-slim@sha256:...`; BUILD_FLAGS goes to buildah as it stands. ENGINE=base takes the
# engine that BASE has.
BASE ?= python:3.11-slim
ENGINE ?= cpu
TAG ?= dev
BUILD_FLAGS ?=
IMAGE := pilotlight.local
ARCHIVES := dist/images

.PHONY: help demo test check format clean images image-control image-runtime

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(READY) ## deploy a small model, call it from zero, watch it go back to zero
	@$(BIN)/pilotlight demo

test: $(READY) ## all tests, real vLLM among them
	@$(BIN)/python -Im pytest

check: $(READY) ## format, lint, types, layering
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(READY) ## rewrite the code as `make check` wants it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

images: image-control image-runtime ## build all images with buildah, and write each as an archive

image-control: ## the control plane: dist/images/control.tar
	@buildah bud --layers --build-arg BASE=$(BASE) $(BUILD_FLAGS) -f platform/Containerfile -t $(IMAGE)/control:$(TAG) .
	@mkdir -p $(ARCHIVES) && rm -f $(ARCHIVES)/control.tar
	@buildah push --quiet $(IMAGE)/control:$(TAG) docker-archive:$(ARCHIVES)/control.tar:$(IMAGE)/control:$(TAG)

image-runtime: ## a replica with its engine: dist/images/runtime.tar
	@buildah bud --layers --build-arg BASE=$(BASE) --build-arg ENGINE=$(ENGINE) $(BUILD_FLAGS) \
	  -f runtime/Containerfile -t $(IMAGE)/runtime:$(TAG) .
	@mkdir -p $(ARCHIVES) && rm -f $(ARCHIVES)/runtime.tar
	@buildah push --quiet $(IMAGE)/runtime:$(TAG) docker-archive:$(ARCHIVES)/runtime.tar:$(IMAGE)/runtime:$(TAG)

clean: ## remove the environment and all caches
	rm -rf .venv .uv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis

.uv/bin/uv:
	@echo "installing uv into .uv/"
	@python3 -m venv .uv && .uv/bin/python -m pip install --quiet uv

$(READY): pyproject.toml | $(filter .uv/bin/uv,$(UV))
	@echo "making .venv (the engine is large: about 6 GB, once)"
	@$(UV) venv --quiet --allow-existing .venv
	@VIRTUAL_ENV=.venv $(UV) pip install --quiet --editable '.[cpu,demo]' --group dev
	@echo "compiling it to bytecode (about a minute, once; every engine start would else pay for it)"
	@# Some packages carry files of other Python versions; they stay as they are.
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
	@touch $@
