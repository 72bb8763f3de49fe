# The front door: `make help`. What needs more than a line is in xtask/ (`cargo xtask --help`).

SHELL := /bin/bash
.DEFAULT_GOAL := help

guests := .cache/guests
kezhan := target/release/kezhan

# What a Debian 12 machine with Rust needs: a C compiler (for crates and the guests' test program); the
# tools whose results the boot tests compare with the guest's, and those that talk to guests by network.
build_packages := gcc libc6-dev
guest_packages := dpkg tar gzip mmdebstrap uidmap fakeroot e2fsprogs
test_packages := bzip2 xz-utils mawk openssl util-linux git curl openssh-client iproute2 nftables
# What bdd/ and its examples are tested with; these often come from elsewhere than Debian, so that a package
# is installed only when the command is not there.
test_commands := go:golang-go npm:npm python3:python3 qemu-img:qemu-utils mke2fs:e2fsprogs
bench_packages := qemu-system-x86 qemu-utils iperf3 passt

# The machine of `make run`: its disk holds what differs from the guest's, to which `guest` leads. Both stay
# when apt has newer packages, so that what was written is there the next time.
machine := .cache/machine
run_options := --kernel $(machine)/guest/vmlinuz --initrd $(machine)/guest/initrd \
	--append 'console=ttyS0 root=/dev/vda quiet' --disk $(machine)/disk.qcow2,format=qcow2,backing=follow

.PHONY: help
help:
	@echo 'make run        a Debian guest on this terminal (RUN="--cpus 2 …" adds options);'
	@echo '                its disk is in .cache/machine, which may be removed'
	@echo 'make test       all checks and tests; the last line counts them'
	@echo 'make lint       format, lints and house rules only'
	@echo 'make bench      the figures of SPECIFICATION.md, beside QEMU'
	@echo 'make soak       an hour under load, every result checked (SOAK="--minutes 5" for less)'
	@echo 'make build      the release build of kezhan'
	@echo 'make guests     the guests of guests/, in .cache/guests'
	@echo 'make clean      removes what was built; the guests stay (rm -r .cache removes them)'

.PHONY: run
run: build $(machine)/disk.qcow2
	@exec $(kezhan) run $(run_options) $(RUN)

$(machine)/disk.qcow2: | build
	@$(call need,$(guest_packages))
	@cargo xtask guests system >/dev/null
	@mkdir -p $(machine)
	@ln -sfn $$(realpath $(guests)/system) $(machine)/guest
	@$(kezhan) image create -q -f qcow2 -F raw -b $$(realpath $(machine)/guest/disk.raw) $@

.PHONY: test
test: setup
	@$(call need,$(guest_packages) $(test_packages) $(call absent,$(test_commands)) $(venv_package))
	@cargo xtask test

.PHONY: lint
lint: setup
	@cargo xtask test --lint

.PHONY: bench
bench: build
	@$(call need,$(guest_packages) $(bench_packages))
	@cargo xtask bench $(BENCH)

.PHONY: soak
soak: build
	@$(call need,$(guest_packages) $(test_packages))
	@cargo xtask soak $(SOAK)

.PHONY: build
build: setup
	@cargo build --release --package kezhan

.PHONY: guests
guests: setup
	@$(call need,$(guest_packages))
	@cargo xtask guests

.PHONY: setup
setup:
	@$(call need,$(build_packages))
	@command -v cargo >/dev/null || { echo 'cargo: not found; install Rust from https://rustup.rs' >&2; exit 1; }

.PHONY: clean
clean:
	cargo clean

# The packages of those COMMAND:PACKAGE in $(1) whose command is not there.
absent = $(foreach pair,$(1),$(if $(shell command -v $(firstword $(subst :, ,$(pair))) 2>&1),,$(lastword $(subst :, ,$(pair)))))
venv_package = $(if $(shell python3 -c 'import ensurepip; print(1)' 2>/dev/null),,python3-venv)

# Installs those of the packages $(1) that are missing. A second run finds all of them and asks nothing.
# apt's lists are fetched when packages are missing or when there are no lists (as in container images).
define need
missing=(); \
for package in $(1); do \
	dpkg-query -Wf '$${db:Status-Status}' $$package 2>/dev/null | grep -qx installed || missing+=($$package); \
done; \
as_root() { if [ "$$(id -u)" = 0 ]; then "$$@"; else sudo "$$@"; fi; }; \
if [ $${#missing[@]} != 0 ] || ! apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1; then \
	as_root apt-get update --quiet; \
fi; \
if [ $${#missing[@]} != 0 ]; then \
	echo "Installing $${missing[*]}"; \
	as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $${missing[@]}; \
fi
endef
