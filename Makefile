# Every target makes its own environment; all work alone, in any order, and again.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
SCRATCH := .scratch
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := FSBENCH_HOME=$(SCRATCH)/demo FSBENCH_DATA=$(SCRATCH)/demo/data FSBENCH_CACHE=$(SCRATCH)/demo/cache

.PHONY: demo test numpy2 nightly check perf calibration rehearsal rehearsal-low-shot heads glyphs variants results results-prepared results-omniglot results-cifar results-lowshot \
  results-heads results-others measured lock clean

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

# The same packages with numpy 2, which qpth does not take: hard links, so that only numpy is installed
NUMPY2 := $(SCRATCH)/numpy2
ON_NUMPY2 := .venv/bin/python -m pip --python $(NUMPY2)/bin/python --disable-pip-version-check
NUMPY2_TESTS ?= tests/unit tests/contract
$(NUMPY2)/.installed: $(INSTALLED)
	rm -rf $(NUMPY2)
	$(PYTHON) -m venv --without-pip $(NUMPY2)
	cp -al .venv/lib/. $(NUMPY2)/lib/
	sed -e '/^qpth==/d' -e 's/^numpy==.*/numpy==2.4.6/' constraints.txt > $(NUMPY2)/constraints.txt
	$(ON_NUMPY2) uninstall --quiet --yes qpth
	$(ON_NUMPY2) install --quiet -c $(NUMPY2)/constraints.txt -e '.[deepemd,postgres]'
	touch $@

numpy2: $(NUMPY2)/.installed  ## tests and the main job on numpy 2 and without qpth (NUMPY2_TESTS='…': which tests)
	$(NUMPY2)/bin/python -m pytest -n 2 --dist loadfile -m 'not nightly and not slow and not qpth' $(NUMPY2_TESTS)
	rm -rf $(SCRATCH)/demo2
	FSBENCH_HOME=$(SCRATCH)/demo2 FSBENCH_CACHE=$(SCRATCH)/demo2/cache $(NUMPY2)/bin/python fsbench.py run -m pixels -b glyphs-5w1s
	FSBENCH_HOME=$(SCRATCH)/demo2 FSBENCH_CACHE=$(SCRATCH)/demo2/cache $(NUMPY2)/bin/python fsbench.py run -m protonet -b glyphs-5w1s --set epochs=1
	FSBENCH_HOME=$(SCRATCH)/demo2 $(NUMPY2)/bin/python fsbench.py report

nightly: $(INSTALLED)  ## the tests that are slow and rarely break, and those of numpy 2
	$(BIN)/python -m pytest -n 2 --dist loadfile -m nightly
	$(MAKE) numpy2

check: $(INSTALLED)  ## format, lint, types, spelling, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell
	$(BIN)/python -m pytest tests/unit/test_layers.py

perf: $(INSTALLED)  ## tables of speed and memory; nothing is asserted
	@for script in tests/performance/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

calibration: $(INSTALLED)  ## what the statistics promise beside what simulation measures, for the README
	OMP_NUM_THREADS=1 $(BIN)/python tests/statistics/calibration.py

rehearsal: $(INSTALLED)  ## every benchmark from made-up sources in the real layout to its page; no row is a result
	$(BIN)/python tests/rehearsal.py

rehearsal-low-shot: $(INSTALLED)  ## ImageNet low-shot at its true size on made-up features (10 GB of disk): time and memory; no row is a result
	OMP_NUM_THREADS=1 $(BIN)/python tests/rehearsal_low_shot.py

SHARED ?= ../shared/data
# jobs of two at a time have one thread each; as many threads give the same bits
RUN := FSBENCH_HOME=. FSBENCH_DATA=$(SCRATCH)/results/data FSBENCH_CACHE=$(SCRATCH)/results/cache $(BIN)/fsbench
TWO := --executor local --jobs 2
# every method of a table sees as many training images, with the same augmentation (recipe budget)
TABLE := softmax,cosine,neg-softmax,neg-cosine,bml,bml-global,bml-local,protonet,nearest-mean
OMNIGLOT := omniglot-small-5w1s,omniglot-small-5w5s
CIFAR := cifar10-5w1s,cifar10-5w5s
LAKE := omniglot-lake-20w1s-small1,omniglot-lake-20w1s-small2
ONE_SHOT := omniglot-small-5w1s,cifar10-5w1s
FIVE_SHOT := omniglot-small-5w5s,cifar10-5w5s
# what is done is found and not done again: a part may be stopped, and resumes when it is made again
results: results-prepared results-trials results-omniglot results-cifar results-lowshot results-heads results-others  ## the runs behind the README's numbers: results.db and reports/ (SHARED=DIR has omniglot/ and cifar10-600.zip)
	$(RUN) report

results-prepared: $(INSTALLED)
	for method in pixels centroid magnet repmet $$(echo $(TABLE) | tr , ' '); do $(RUN) check $$method || exit 1; done  # its pages show it
	$(RUN) prepare omniglot --source $(SHARED)/omniglot
	$(RUN) import-folder $(SHARED)/cifar10-600.zip --name cifar10 --size 32
	$(RUN) run -m pixels -b $(OMNIGLOT),$(CIFAR)

# what chose values of the recipes, on validation classes
results-trials: results-prepared
	$(RUN) tune neg-softmax --bench omniglot-small-5w1s --recipe budget --grid head_start=1,0 --grid head_scale=5,1
	$(RUN) tune bml --bench omniglot-small-5w1s --grid elastic_strength=5.5,1,0.3,0
	$(RUN) tune bml --bench omniglot-small-5w1s --grid elastic_slope=0.03,0.1,0.3,1
	$(RUN) tune bml --bench cifar10-5w1s --recipe budget --images 36000 --grid elastic_strength=5.5,1,0.3,0

# a seed of all methods after the other, so that what is done is a whole table; then the plain readout of each training
define equal_budgets
	for seed in 0 1 2; do $(RUN) $(2) run -m $(TABLE) -b $(1) --recipe budget --seeds $$seed $(TWO) || exit 1; done
	for method in $$(echo $(TABLE) | tr , ' '); do \
	  $(RUN) $(2) run -m centroid -b $(1) --recipe budget --set features=$$method --seeds 0-2 || exit 1; done
endef
results-omniglot: results-prepared
	$(call equal_budgets,$(OMNIGLOT))
results-cifar: results-prepared
	$(call equal_budgets,$(CIFAR))

# a representation a seed serves three heads; what is tuned is tuned on the validation half
LOWSHOT := omniglot-small-lowshot-n1,omniglot-small-lowshot-n2,omniglot-small-lowshot-n5,omniglot-small-lowshot-n10
GLYPHS_LOWSHOT := glyphs-lowshot-n1,glyphs-lowshot-n2,glyphs-lowshot-n5,glyphs-lowshot-n10,glyphs-lowshot-n20
define joint_heads
	for seed in 0 1 2; do for on in aux=none aux=sgm aux=batchsgm aux=l2; do \
	  for head in lowshot-logistic lowshot-hallucination matching-network; do \
	  $(RUN) run -m $$head --set "features=representation($$on)" -b $(1) --seeds $$seed || exit 1; done; done; done
endef
results-lowshot: results-prepared
	$(RUN) tune lowshot-logistic --bench omniglot-small-lowshot-val-n1 --grid 'features=representation(aux=none);representation(aux=sgm);representation(aux=batchsgm);representation(aux=l2)'
	$(RUN) tune lowshot-logistic --bench omniglot-small-lowshot-val-n1 --grid 'features=representation(aux=batchsgm,batchsgm_weight=0.04);representation(aux=batchsgm,batchsgm_weight=0.2)'
	$(RUN) tune lowshot-logistic --bench omniglot-small-lowshot-val-n1 --grid 'features=representation(aux=sgm,sgm_weight=0.001);representation(aux=sgm,sgm_weight=0.016);representation(aux=l2,l2_weight=0.006)'
	$(call joint_heads,$(LOWSHOT))
	$(call joint_heads,$(GLYPHS_LOWSHOT))

# many classifiers on the trainings of the two above
HEADS := centroid,knn,logistic,svm,ridge,metaopt-svm,dn4,frn,finetune,bd-cspn,laplacianshot,tim,alpha-tim,pt-map,bpa,transductive-finetune
results-heads: results-omniglot
	$(RUN) run -m $(HEADS) -b omniglot-small-5w1s,omniglot-small-5w1s-dir2 --recipe budget --set features=softmax --seeds 0,1 --episodes 600 $(TWO)

# More rows than the shipped database has room for, so in one of their own; each has a page in docs/.
HEADS_ON ?= cifar10
HEADS_SEEDS ?= 0-2
heads: results-prepared  ## many classifiers on three trainings each of softmax and protonet (docs/heads.md; HEADS_ON=omniglot-small for drawings)
	for features in softmax protonet; do $(RUN) --home $(SCRATCH)/heads run -m $(HEADS) --recipe budget --set features=$$features --seeds $(HEADS_SEEDS) \
	  -b $(HEADS_ON)-5w1s,$(HEADS_ON)-5w1s-dir2,$(HEADS_ON)-5w5s,$(HEADS_ON)-5w5s-dir2 --episodes 600 $(TWO) || exit 1; done
	$(BIN)/python tests/measured.py heads $(SCRATCH)/heads

GLYPHS := glyphs-5w1s,glyphs-5w5s,glyphs-digits-5w1s
glyphs: $(INSTALLED)  ## every method at an equal budget on the embedded drawings (docs/glyphs.md)
	$(RUN) --home $(SCRATCH)/glyphs run -m pixels -b $(GLYPHS)
	$(call equal_budgets,$(GLYPHS),--home $(SCRATCH)/glyphs)
	$(BIN)/python tests/measured.py glyphs $(SCRATCH)/glyphs

VARIED := $(RUN) --home $(SCRATCH)/variants
variants: results-prepared  ## margins, views and heads beside the defaults of their methods (docs/variants.md)
	mkdir -p $(SCRATCH)/variants && cp -n results.db $(SCRATCH)/variants/  # the defaults are there
	for margin in -0.3 -0.05 0.0 0.1; do $(VARIED) run -m neg-cosine -b cifar10-5w1s --recipe budget --set margin=$$margin --seeds 0-2 $(TWO) || exit 1; done
	for view in global local; do $(VARIED) run -m bml -b $(ONE_SHOT) --recipe budget --seeds 0-2 --set views=$$view $(TWO) || exit 1; done
	$(VARIED) run -m neg-softmax -b $(OMNIGLOT),$(CIFAR) --recipe budget --seeds 0-2 --set head_start=1 --set head_scale=5 $(TWO)
	$(BIN)/python tests/measured.py variants $(SCRATCH)/variants

results-others: results-prepared
	$(RUN) run -m pixels,nearest-mean -b glyphs-lowshot-n1,glyphs-lowshot-n5
	$(RUN) run -m pixels -b $(LAKE)
	$(RUN) run -m nearest-mean -b $(LAKE) --seeds 0-4 $(TWO)
	$(RUN) run -m protonet -b $(LAKE) --seeds 0-4 $(TWO)
	$(RUN) run -m protonet -b $(LAKE) --recipe as-published --seeds 0-4 $(TWO)
	$(RUN) run -m magnet,repmet -b $(OMNIGLOT),$(CIFAR) --recipe budget --seeds 0-2 $(TWO)
	$(RUN) run -m magnet,repmet,protonet -b omniglot-small-20w1s --recipe budget --episodes 600 --seeds 0-2 $(TWO)
	$(RUN) run -m deepemd-pretrain -b $(OMNIGLOT),$(CIFAR) --seeds 0-2 $(TWO)
	$(RUN) run -m deepemd-pretrain -b $(OMNIGLOT),$(CIFAR) --seeds 0-2 --set classifier=mean $(TWO)
	for grad in full flow-only; do $(RUN) run -m deepemd -b $(ONE_SHOT) --seeds 0-2 --set grad=$$grad $(TWO) || exit 1; done
	for passes in 100 0; do $(RUN) run -m deepemd -b $(FIVE_SHOT) --episodes 600 --seeds 0-2 --set sfc_update_step=$$passes $(TWO) || exit 1; done
	for variant in grid sampling; do $(RUN) run -m deepemd -b $(ONE_SHOT) --episodes 600 --seeds 1 --set variant=$$variant $(TWO) || exit 1; done
	for variant in grid sampling; do $(RUN) run -m deepemd -b $(FIVE_SHOT) --episodes 600 --set variant=$$variant $(TWO) || exit 1; done

measured: $(INSTALLED)  ## the README's tables of equal budgets and its verdicts, written from results.db
	$(BIN)/python tests/measured.py --write

lock: $(INSTALLED)  ## add the digests of new standard settings to benchmarks/episodes.lock
	$(BIN)/python -m harness.benchmarks.lock

clean:
	rm -rf .venv $(SCRATCH) *.egg-info
