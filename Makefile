# Every target makes its own environment; all work alone, in any order, and again.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
SCRATCH := .scratch
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := FSBENCH_HOME=$(SCRATCH)/demo FSBENCH_DATA=$(SCRATCH)/demo/data FSBENCH_CACHE=$(SCRATCH)/demo/cache

.PHONY: demo test check perf rehearsal results lock clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)  ## the main job for two methods on the embedded benchmark, and the page
	rm -rf $(SCRATCH)/demo
	$(DEMO) $(BIN)/fsbench run --method pixels,protonet --bench glyphs-5w1s
	$(DEMO) $(BIN)/fsbench compare protonet pixels --bench glyphs-5w1s || true
	@echo "The page:" && $(DEMO) $(BIN)/fsbench report

test: $(INSTALLED)  ## all tests; what needs a browser, a cluster, a server or real images says so and skips
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(INSTALLED)  ## format, lint, types, spelling, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest tests/unit/test_layers.py

perf: $(INSTALLED)  ## tables of speed and memory; nothing is asserted
	@for script in tests/performance/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

rehearsal: $(INSTALLED)  ## every benchmark from made-up sources in the real layout to its page; no row is a result
	$(BIN)/python tests/rehearsal.py

OMNIGLOT ?= ../shared/data/omniglot
RESULTS := FSBENCH_HOME=. FSBENCH_DATA=$(SCRATCH)/results/data FSBENCH_CACHE=$(SCRATCH)/results/cache
results: $(INSTALLED)  ## the runs behind the README's numbers: results.db and reports/ (OMNIGLOT=DIR holds Lake's small zips)
	rm -rf results.db runs
	for method in pixels nearest-mean protonet; do $(RESULTS) $(BIN)/fsbench check $$method || exit 1; done  # its pages show it
	$(RESULTS) $(BIN)/fsbench run -m nearest-mean,protonet -b glyphs-5w1s,glyphs-5w5s,glyphs-digits-5w1s --seeds 0-2
	$(RESULTS) $(BIN)/fsbench run -m pixels -b glyphs-5w1s,glyphs-5w5s,glyphs-digits-5w1s
	$(RESULTS) $(BIN)/fsbench run -m pixels,nearest-mean -b glyphs-lowshot-n1,glyphs-lowshot-n5
	$(RESULTS) $(BIN)/fsbench prepare omniglot --source $(OMNIGLOT)
	$(RESULTS) $(BIN)/fsbench run -m pixels,nearest-mean,protonet -b omniglot-small-5w1s,omniglot-small-5w5s
	$(RESULTS) $(BIN)/fsbench run -m pixels,nearest-mean,protonet -b omniglot-lake-20w1s-small1,omniglot-lake-20w1s-small2
	$(RESULTS) $(BIN)/fsbench report

lock: $(INSTALLED)  ## add the digests of new standard settings to benchmarks/episodes.lock
	$(BIN)/python -m harness.lock

clean:
	rm -rf .venv $(SCRATCH) *.egg-info
