# `make lab` brings everything up on this machine; `make test` proves it. Everything else is listed by `make help`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# A second lab beside the first: LAB_NAME=other LAB_PREFIX=198.18.7 make lab
export LAB_NAME ?= misago
export LAB_PREFIX ?= 198.18.0
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help setup lab endpoints status destroy check molecule e2e test

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what the control machine needs: a virtual environment, a Docker engine
	@scripts/setup

lab: ## Bring the whole system up on this machine, from nothing or again
	@scripts/lab

endpoints: ## Print the lab's addresses and files as one JSON object
	@scripts/endpoints

status: ## Show machines, nodes and services of the lab
	@scripts/status

destroy: ## Remove the lab and all its data (asks; FORCE=1 doesn't)
	@scripts/destroy

check: setup ## Lint, type-check and unit-test
	@scripts/check

molecule: setup ## Test every role on its own (ROLE=name for one)
	@scripts/molecule $(ROLE)

e2e: ## Test the lab that runs: journeys, drills
	@scripts/e2e

test: ## Check, and test a lab of its own from nothing (KEEP=1 keeps it; MOLECULE=1: every role, too; INTERRUPT=1: kills)
	@scripts/test
