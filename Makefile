# Everything one does here often. Each target sets up what it needs: scripts/setup.sh.

.DEFAULT_GOAL := help
.NOTPARALLEL:
PY := .venv/bin/python
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
PYTEST := $(PY) -m pytest
# How many tests run at a time: make test JOBS=4.
JOBS ?= 2
PARALLEL := $(PYTEST) --numprocesses=$(JOBS)
# But not what is slow and rarely breaks.
EACH_RUN := -m 'not nightly'

# Or each of the thousand processes that the tests start would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

# Modules without I/O or waiting: their tests must take every branch.
PURE := fusedm/block/*.py fusedm/nbd/*.py fusedm/crypto/data_units.py fusedm/crypto/keyslots.py \
	fusedm/crypto/cipher_spec.py \
	fusedm/stores/rbd/address.py fusedm/stores/rbd/extents.py \
	fusedm/crypto/engine_profiles.py fusedm/crypto/engine_faults.py fusedm/stack/engine_spec.py \
	fusedm/dm/table.py fusedm/dm/mapping.py fusedm/dm/stacking.py fusedm/dm/registry.py \
	fusedm/dm/target.py fusedm/dm/targets/*.py fusedm/dm/spans.py fusedm/dm/snapshot/*.py fusedm/dm/write_log.py fusedm/dm/bad_blocks.py fusedm/dm/damage.py \
	fusedm/dm/thin/blocks.py fusedm/dm/thin/committing.py fusedm/dm/thin/loading.py \
	fusedm/dm/thin/node_store.py fusedm/dm/thin/pool_metadata.py fusedm/dm/thin/pool_state.py \
	fusedm/dm/thin/bios.py fusedm/dm/thin/messages.py fusedm/dm/thin/mode.py \
	fusedm/dm/thin/open_thin.py fusedm/dm/thin/pool.py fusedm/dm/thin/pool_target.py fusedm/dm/thin/requests.py \
	fusedm/dm/thin/space_map.py fusedm/dm/thin/superblock.py fusedm/dm/thin/tree.py \
	fusedm/dm/arguments.py fusedm/dm/crypt_lines.py fusedm/dm/context_target.py fusedm/dm/mirror/*.py \
	fusedm/dm/raid/superblock.py fusedm/dm/raid/bitmap.py fusedm/dm/raid/assembly.py \
	fusedm/dm/raid/commit.py fusedm/dm/raid/members.py fusedm/dm/raid/array.py \
	fusedm/dm/raid/actions.py fusedm/dm/raid/reading.py fusedm/dm/raid/mirrored.py \
	fusedm/dm/raid/raid0.py fusedm/dm/raid/raid1.py fusedm/dm/raid/raid10.py \
	fusedm/dm/raid/changes.py fusedm/dm/raid/columns.py fusedm/dm/raid/layouts.py \
	fusedm/dm/raid/parity.py fusedm/dm/raid/scratch.py fusedm/dm/raid/stripes.py \
	fusedm/dm/raid/syndromes.py fusedm/dm/raid/copies.py fusedm/dm/raid/windows.py \
	fusedm/dm/started_keys.py fusedm/dm/fixed_profile.py fusedm/system/view.py \
	fusedm/system/name_table.py fusedm/system/device_numbers.py \
	fusedm/stack/spec.py fusedm/stack/toml_lines.py fusedm/stack/save.py \
	fusedm/files/byte_io.py fusedm/fuse/tree.py fusedm/fuse/wire.py fusedm/fuse/nodes.py \
	fusedm/fuse/sysfs.py fusedm/control/protocol.py fusedm/control/wire.py \
	fusedm/dmsetup/options.py fusedm/dmsetup/grammar.py fusedm/dmsetup/names.py \
	fusedm/dmsetup/tables.py fusedm/dmsetup/device.py fusedm/dmsetup/fields.py \
	fusedm/dmsetup/columns.py fusedm/dmsetup/selection.py fusedm/dmsetup/tree.py \
	fusedm/bench/jobs.py fusedm/bench/contest.py fusedm/bench/figures.py \
	fusedm/bench/record.py fusedm/bench/report.py \
	fusedm/tables/*.py fusedm/tables/grammars/*.py \
	fusedm/inspect/explain.py fusedm/inspect/independent.py fusedm/inspect/independent_adiantum.py \
	fusedm/inspect/leak.py
comma := ,
empty :=
PURE_LIST := $(subst $(empty) $(empty),$(comma),$(strip $(PURE)))

.PHONY: help setup demo test nightly covered test-fast test-mount interrupts storms fuzz-nbd test-kernel \
	test-ceph test-roots cover sim fuzz fmt fmt-check lint types check ci ceph new-target lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

demo: setup ## Set up, then show encrypted views with real filesystems on loop devices
	@$(SUDO) .venv/bin/fusedm demo

test: fmt-check lint types test-fast test-mount test-kernel test-ceph ## Set up, then run every check and every test

setup: ## Install system packages and make .venv, unless that is done
	@scripts/setup.sh

check: fmt-check lint types test-fast ## All but mounts and the kernel: before every commit

UNITS := $(EACH_RUN) $(patsubst %,--ignore=tests/%,mount kernel ceph property sim)
test-fast: setup ## Tests without FUSE and loop devices
	$(PARALLEL) $(UNITS)
	$(PARALLEL) $(EACH_RUN) tests/property tests/sim

# Which makes them half as slow again.
covered: setup ## The same of units, which must cover pure modules whole
	$(PARALLEL) $(UNITS) --cov --cov-report=
	$(PY) -m coverage report --include='$(PURE_LIST)' -m --skip-covered --fail-under=100

test-mount: setup ## Tests on real mounts and loop devices
	$(PARALLEL) --dist=loadfile -m 'not alone and not nightly' tests/mount
	$(PYTEST) -m 'alone and not nightly' tests/mount

test-kernel: setup ## Tests that boot a Linux kernel and compare its answers with ours
	$(PARALLEL) $(EACH_RUN) --dist=loadfile tests/kernel

nightly: setup covered interrupts storms fuzz fuzz-nbd ## What is slow and rarely breaks: before closing an issue
	$(PYTEST) -m nightly tests
	$(MAKE) sim

# Without them its tests are skipped, and say so.
test-ceph: setup ## Tests on a cluster of Ceph, which is started for them
	-scripts/ceph.sh fetch
	$(PARALLEL) $(EACH_RUN) --dist=loadfile tests/ceph

ceph: setup ## Start a small cluster of Ceph to try things on; Ctrl-C stops it
	scripts/ceph.sh run

test-roots: ## Both commands of the README in fresh systems, as root: make test-roots ROOTS=debian13
	@scripts/test-roots.sh $(ROOTS)

cover: setup ## Run all tests and print what none of them reached
	$(PYTEST) --cov --cov-report=term-missing:skip-covered

sim: setup ## Long random runs: make sim N=200 SEED=7
	FUSEDM_SIM_N='$(or $(N),200)' FUSEDM_SIM_SEED='$(SEED)' $(PYTEST) tests/sim -s

fuzz: setup ## What an NBD server may say, at random: make fuzz N=100000 SEED=7
	FUSEDM_FUZZ_N='$(or $(N),100000)' FUSEDM_FUZZ_SEED='$(SEED)' $(PYTEST) tests/property/test_any_nbd_replies.py

interrupts: setup ## Signal verbs before every line of what makes and undoes things
	FUSEDM_PLACES=1000 $(PYTEST) tests/mount/test_interrupted.py

storms: setup ## Requests and verbs at random, kills and all: make storms MINUTES=5 SEED=7
	FUSEDM_STORM_SECONDS=$$((60 * $(or $(MINUTES),1))) FUSEDM_STORM_SEED='$(SEED)' \
	FUSEDM_KILL_ROUNDS=50 $(PYTEST) -s tests/mount/test_storms.py tests/mount/test_killed_writes.py

fuzz-nbd: setup ## Anything at all over NBD connections: make fuzz-nbd N=100000 SEED=7
	FUSEDM_FUZZ_N='$(or $(N),100000)' FUSEDM_FUZZ_SEED='$(SEED)' \
	$(PYTEST) tests/integration/test_nbd_fuzz.py -s

fmt: setup ## Format the code and sort its imports
	$(PY) -m ruff check --select I --fix-only --quiet .
	$(PY) -m ruff format .

fmt-check: setup ## Check the format
	$(PY) -m ruff format --check .

lint: setup ## Check with ruff
	$(PY) -m ruff check .

types: setup ## Check the types
	$(PY) -m mypy

new-target: ## Write a new device-mapper target to start from: make new-target NAME=era
	@scripts/new-target.sh '$(NAME)'

ci: ## What CI runs
	scripts/ci.sh

lock: setup ## Renew the versions in scripts/constraints.txt
	scripts/lock.sh

clean: ## Remove .venv and all else that was made here
	rm -rf .venv build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
