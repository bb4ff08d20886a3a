# Everything a newcomer needs: each target makes .venv first. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
NATIVE := $(wildcard src/bloomery/models/native/*.h src/bloomery/models/native/*.cpp)
CLIENTS := $(VENV)/.clients
EXPERIMENTS := sequence_bottleneck translation_bottleneck blanks code_bugs pictures heads quality_vs_quantity \
	label_functions labels_quality recommend_terminals retrieval_training hybrid_retrieval not_in_documents \
	dna_tokenizers reinforced_sums domain_replay fit_small_law intervals compare_null

.PHONY: demo test test-unit test-whole check format bench kills experiments results clean clients
.DEFAULT_GOAL := test

$(INSTALLED): pyproject.toml constraints.txt hatch_build.py $(NATIVE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=24.1"
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --quiet -c constraints.txt -e ".[test,check,clients]"
	touch $@

$(CLIENTS): $(INSTALLED) tests/clients/install.py tests/clients/inspect_ai.txt tests/clients/node/package-lock.json
	$(BIN)/python tests/clients/install.py
	touch $@

demo: $(INSTALLED)   ## real text to a trained, measured, served model
	$(BIN)/bloomery demo $(ARGS)

clients: $(CLIENTS)  ## clients of other languages and environments, for tests/clients

# Two processes, a thread each: most tests wait for one core. With ARGS one process, which has them.
test: $(CLIENTS)     ## every test
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	$(MAKE) --no-print-directory --keep-going --jobs=2 test-unit test-whole
endif

test-unit: $(CLIENTS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/unit tests/architecture

test-whole: $(CLIENTS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/clients tests/golden tests/integration

check: $(INSTALLED)  ## lint, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# All of them run, whatever one says: some exit with 1 where their bar is not met.
bench: $(INSTALLED)  ## performance against named peers; slow
	failed=; for bench in benchmarks/bench_*.py; do \
		echo "== $$bench"; $(BIN)/python $$bench || failed="$$failed $$bench"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

kills: $(INSTALLED)  ## fifty SIGKILLs at random instants, each resumed: bit-equal end; full disks
	BLOOMERY_KILLS=50 $(BIN)/python -m pytest -s tests/integration/test_kill.py tests/integration/test_ray.py
	BLOOMERY_KILLS=50 $(BIN)/python -m pytest -s tests/integration/test_ranks.py -k deaths
	$(BIN)/python benchmarks/kill_train.py
	$(BIN)/python benchmarks/kill_curate.py
	$(BIN)/python benchmarks/full_disk.py

# What is not in it stands at the head of docs/results.md.
experiments: $(INSTALLED)  ## what docs/results.md says, measured again; many hours
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[experiments]"
	for one in $(EXPERIMENTS); do $(BIN)/python experiments/$$one.py || exit 1; done
	for grid in stories plays; do $(BIN)/python experiments/sweep_regret.py --record $$grid || exit 1; done
	$(BIN)/python experiments/sweep_regret.py
	$(BIN)/python experiments/write_results.py

results: $(INSTALLED)  ## docs/results.md of the results that are kept
	$(BIN)/python experiments/write_results.py

clean:
	rm -rf $(VENV) .venv-inspect tests/clients/node/node_modules .pytest_cache .ruff_cache dist
