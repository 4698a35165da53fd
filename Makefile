# make demo    the main job on an embedded sample; writes out/
# make test    installs what the tests need (also system packages, where it may) and runs them
# make check   ruff and mypy
# make soak    the tests that take minutes or hold a promise about time, and 30 minutes of watch with a
#                fault every 20 seconds: on a machine that does nothing else
# make venv    .venv with everything above; the other targets call it
#
# TORCH is what pip installs for torch, before anything else. A pin, because a range may fetch another
# build with several GB of CUDA packages. Where the index offers more than one build, choose by e.g.
#   make venv TORCH='torch==2.13.0+cpu'
# PYTHON is the interpreter that .venv is made from (3.11 or 3.12); found when not given.

TORCH ?= torch==2.13.0
VENV ?= .venv
EXTRAS ?= dev
ARGS ?=

py := $(VENV)/bin/python
pip := $(py) -m pip --disable-pip-version-check -q
pytest := $(py) -m pytest
# $(call run,OPTIONS,MARKERS): some of the tests. Those that fail run again, by themselves, twice at most: a
# machine that others share may stand still for seconds. 1: some failed; 5: there were none to choose.
again = $(pytest) --last-failed --last-failed-no-failures none -m '$(1)' $(ARGS)
run = $(pytest) --cache-clear $(1) -m '$(2)' $(ARGS) || case $$? in \
	1) echo 'once more, by themselves:'; $(call again,$(2)) || $(call again,$(2)) || failed=1 ;; \
	5) ;; \
	*) failed=1 ;; \
	esac
stamp := $(VENV)/.installed
types := build/types

.PHONY: demo test check soak venv test-deps

demo: venv
	@$(VENV)/bin/streamsr demo $(ARGS)

test: venv test-deps
	@failed=0; \
	$(call run,-n 2 --dist loadfile,not cuda and not soak and not alone); \
	$(call run,,alone and not cuda and not soak); \
	exit $$failed

soak: venv test-deps
	@$(py) -m pytest -m 'soak and not cuda'
	@$(py) tests/soak.py $(ARGS)

# mypy knows no editable install that maps folders: show it kernels/ and bench/ where they are imported.
check: venv
	@$(py) -m ruff check . && $(py) -m ruff format --check .
	@rm -rf $(types) && mkdir -p $(types)/streamsr
	@ln -s $(CURDIR)/streamsr/* $(CURDIR)/kernels $(CURDIR)/bench $(types)/streamsr/
	@cd $(types) && $(abspath $(py)) -m mypy --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache

test-deps:
	@.ci/apt

venv: $(stamp)

# The last step: mediapipe requires the OpenCV build that needs libGL; the headless build of the same
# version takes its place. Both own the folder cv2/, so the first must go before the second comes.
$(stamp): pyproject.toml Makefile
	@set -e; \
	python=$(PYTHON); \
	for candidate in python3.11 python3.12 python3 /usr/bin/python3; do \
		[ -n "$$python" ] && break; \
		if $$candidate -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
			2>/dev/null; then python=$$candidate; fi; \
	done; \
	[ -n "$$python" ] || { echo "error: Python 3.11 or 3.12 (with venv) not found; set PYTHON=..." >&2; exit 2; }; \
	echo "venv: $(VENV) from $$($$python --version)"; \
	$$python -m venv $(VENV)
	@echo "venv: $(TORCH)"
	@$(pip) install $(TORCH)
	@echo "venv: streamsr[$(EXTRAS)] and what it needs"
	@$(pip) install -e '.[$(EXTRAS)]'
	@set -e; \
	version=$$($(py) -c 'from importlib.metadata import version; print(version("opencv-contrib-python"))'); \
	echo "venv: opencv-contrib-python-headless==$$version in place of the build that needs libGL"; \
	$(pip) uninstall -y opencv-contrib-python; \
	$(pip) install --no-deps --force-reinstall opencv-contrib-python-headless==$$version
	@touch $@
