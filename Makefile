# The four things to do with this repository. Everything else is in scripts/.
# CARGO_TARGET_DIR is honoured.

.PHONY: run test bench fmt

# Build Tracehouse and start it with demo traffic. DATA_DIR=./data, RATE=20 traces per second.
run:
	scripts/run

# Everything that must hold before a change lands.
test:
	scripts/test

# Measure against the bars in docs/. Options: make bench ARGS="--help".
bench:
	scripts/bench $(ARGS)

# Format the code.
fmt:
	cargo fmt --all
