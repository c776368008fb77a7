# `make` alone lists what there is. Every target does the set-up that it needs.
# All of them build in release mode, so that they share one build of libtorch's
# bindings (the slow part).
CARGO ?= cargo
# More for cargo: make test CARGOFLAGS="--locked --offline"
CARGOFLAGS ?=
# How the demo goes on: make demo ARGS= leaves out the edit
ARGS ?= --fix

.DEFAULT_GOAL := help
.PHONY: help libtorch demo test install lint doc bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST)

libtorch: ## fetch libtorch once, and link it to ./libtorch
	@.cargo/libtorch.sh

demo: libtorch ## audit a network that learned to read a stamped word
	@echo "demo: building (some minutes the first time)"
	@$(CARGO) build $(CARGOFLAGS) --release --example spurious_text
	@echo "demo: a network learns to read the word stamped on its training images"
	@status=0; $(CARGO) run $(CARGOFLAGS) --release --quiet --example spurious_text -- $(ARGS) || status=$$?; \
	case $$status in \
	0) ;; \
	1) echo "demo: denied, as it should be (exit code 1)" ;; \
	*) echo "demo: failed with exit code $$status" >&2; exit $$status ;; \
	esac

# Many small networks at once: threads of their own would only get in each other's way.
test: libtorch ## run all tests, those in the documentation included
	@echo "test: building and running (some minutes the first time)"
	@OMP_NUM_THREADS=1 $(CARGO) test $(CARGOFLAGS) --release

install: libtorch ## put the program tch-audit where cargo puts programs (~/.cargo/bin)
	@$(CARGO) install $(CARGOFLAGS) --locked --path .

lint: libtorch ## check the format, and run clippy with warnings denied
	@$(CARGO) fmt --check
	@$(CARGO) clippy $(CARGOFLAGS) --release --all-targets -- -D warnings

doc: libtorch ## build the documentation, warnings denied
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CARGOFLAGS) --release --no-deps

bench: libtorch ## run the benchmarks
	@$(CARGO) bench $(CARGOFLAGS)

clean: ## remove what was built here; the libtorch in your cache stays
	@$(CARGO) clean
	@if [ -L libtorch ]; then rm libtorch; fi
