# A door for those who expect one; the work is done by `cargo xtask`.

.PHONY: build test demo lima-run

build:
	cargo xtask build

test:
	cargo xtask test

demo:
	cargo xtask demo

# Runs CMD with our programs first on PATH: make lima-run CMD="faultbox test specs/tutorial/first-test.star"
# On Linux there is no virtual machine to enter, so the command simply runs here.
lima-run:
	@test -n "$$CMD" || { echo 'usage: make lima-run CMD="faultbox test FILE.star"' >&2; exit 1; }
	@PATH="$(CURDIR)/bin:$$PATH" sh -c "$$CMD"
