# What a developer types. `make` alone lists it.
PYTHON ?= python3
DEVSTACK = $(PYTHON) -m devstack
.DEFAULT_GOAL := help
.PHONY: help run test faults bench lint fmt migration psql n8n-export n8n-import backup restore compose-secrets compose-test vendor lock

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## the whole system on this machine: no Docker, no key; Ctrl-C stops it
	@$(DEVSTACK) run

test: ## everything; ARGS='tests/web -k login' goes to pytest
	@$(DEVSTACK) test $(ARGS)

faults: ## faults in a row on a real system: make faults RUNS=200 SEED=1; ONLY=create/done for some (faults/README.md)
	@$(DEVSTACK) install
	@$(DEVSTACK) tool python -m faults --runs $(or $(RUNS),10) --seed $(or $(SEED),1) \
	  $(if $(ONLY),--only $(ONLY)) $(if $(LOGS),--logs)

bench: ## each hot path beside the least that could do it, on a cluster of its own: make bench ROWS=ingest SCALE=0.1
	@$(DEVSTACK) install
	@$(DEVSTACK) tool python -m bench --scale $(or $(SCALE),1) $(if $(ROWS),--rows $(ROWS))

lint: ## ruff and mypy, as CI does
	@$(DEVSTACK) tool ruff check .
	@$(DEVSTACK) tool ruff format --check .
	@$(DEVSTACK) tool mypy

fmt: ## let ruff format and mend what it can
	@$(DEVSTACK) tool ruff check --fix .
	@$(DEVSTACK) tool ruff format .

migration: ## a new migration from the models, on the running stack: make migration NAME='add x'
	@$(DEVSTACK) exec flask db migrate -m "$(NAME)"

psql: ## a shell on the running database
	@$(DEVSTACK) psql

n8n-export: ## bring edits made in n8n's editor into n8n/workflows
	@$(DEVSTACK) n8n-export

n8n-import: ## bring n8n/workflows into n8n; FORCE=1 also over edits that were not exported
	@$(DEVSTACK) n8n-import $(if $(FORCE),--force)

backup: ## databases, documents and secrets into a new folder: make backup TO=/somewhere/2026-11-26
	@$(DEVSTACK) backup $(or $(TO),$(error say where: make backup TO=folder))

restore: ## a backup into a checkout without data: make restore FROM=/somewhere/2026-11-26 (docs/backup.md)
	@$(DEVSTACK) restore $(or $(FROM),$(error say from where: make restore FROM=folder))

compose-secrets: ## make what compose.yml needs in secrets/; OPENAI_API_KEY_FILE=… for your provider (docs/containers.md)
	@$(PYTHON) deploy/compose_secrets.py

compose-test: ## both modes through compose.yml, plain and at scale; needs a Docker engine
	@$(DEVSTACK) tool python -m tests.containers

vendor: ## fetch the front end's vendored files again
	@$(PYTHON) tools/vendor/vendor.py

lock: ## pin requirements/*.in again, with hashes
	@cd requirements && for name in app stack offline azure dev; do uv pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	  $$name.in --output-file $$name.txt; done
