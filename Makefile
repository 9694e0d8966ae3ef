# The front door. Every target works on a bare Debian 12 as the first command typed: each installs
# the packages it needs, and only those that are missing, before it starts. `make help` lists them.

SHELL := /bin/sh
MAKEFLAGS += --no-builtin-rules --no-print-directory

PREFIX ?= /usr/local
DESTDIR ?=
SOURCE ?=
SCRIPT ?= examples/quickstart.lua
FUZZ_SECONDS ?= 60
BENCH ?=
SUITES ?=
FRAMES ?= ../shared/data/corpus/frames.bin.zst
BARE_TARGETS ?= run test
URL ?=
CHECKS ?=
JOBS ?= $(shell nproc)

# What a build needs; what each further thing needs on top. libluajit-5.1-dev is the fallback where
# LuaJIT's source cannot be had (cmake/LuaJIT.cmake).
PACKAGES := build-essential cmake ninja-build pkg-config xz-utils ca-certificates \
  libwebsockets-dev libwebsockets-evlib-ev libev-dev libcbor-dev libcjson-dev libzstd-dev libssl-dev libsecp256k1-dev libxxhash-dev \
  liblmdb-dev libcurl4-openssl-dev libc-ares-dev libutf8proc-dev libpsl-dev libedit-dev \
  libluajit-5.1-dev
PACKAGES_TEST := libcmocka-dev luajit
PACKAGES_BENCH := valgrind
PACKAGES_LINT := clang-format clang-tidy lua-check
# Its programs are in C and in Node.
PACKAGES_RELIABILITY = $(PACKAGES_NODE) iproute2
PACKAGES_FUZZ := clang libclang-rt-dev
PACKAGES_BARE := debootstrap
PACKAGES_DEB := dpkg-dev file git help2man
PACKAGES_DEB_TEST := $(PACKAGES_BARE) lintian systemd systemd-container
# The end-to-end tests bring their own Node programs through npm; a Node that is already there, from
# wherever, is good enough, so only missing commands are installed.
PACKAGES_NODE := $(if $(shell command -v node),,nodejs) $(if $(shell command -v npm),,npm)
PACKAGES_E2E := curl python3 python3-websockets chromium $(PACKAGES_NODE)

setup = @sh cmake/setup.sh

.PHONY: all
all: setup  ## build Moonjet, optimised: build/release/moonjet
	@sh cmake/build.sh release $(JOBS) moonjet

.PHONY: run
run: all  ## simulated network → SCRIPT → the events a subscriber gets (SOURCE=wss://… for a real one)
	@sh examples/run.sh build/release/moonjet $(SCRIPT) $(SOURCE)

.PHONY: test
test:  ## build with ASan and UBSan, run every test
	$(setup) $(PACKAGES) $(PACKAGES_TEST)
	@sh cmake/build.sh dev $(JOBS)
	@sh tests/house/run-tests.sh build/dev $(JOBS)

.PHONY: docs
docs:  ## the reference in docs/scripting.md, from lua/_meta/moonjet.lua
	$(setup) luajit
	@luajit docs/generate.lua

.PHONY: tsan
tsan:  ## the tests under ThreadSanitizer
	$(setup) $(PACKAGES) $(PACKAGES_TEST)
	@sh cmake/build.sh tsan $(JOBS)
	@MOONJET_SKIP_E2E=1 sh tests/house/run-tests.sh build/tsan $(JOBS)

.PHONY: e2e
e2e:  ## the end-to-end tests alone, against real peers
	$(setup) $(PACKAGES) $(PACKAGES_TEST) $(PACKAGES_E2E)
	@sh cmake/build.sh dev $(JOBS)
	@sh tests/house/run-tests.sh --only-e2e build/dev $(JOBS)

.PHONY: conformance
conformance:  ## the 72 checks of Jetstream v1 on our own server (URL=ws://… on any other)
ifeq ($(URL),)
	$(setup) $(PACKAGES) $(PACKAGES_NODE)
	@sh cmake/build.sh dev $(JOBS) moonjet
	@sh tests/conformance/run.sh build/dev/moonjet $(CHECKS)
else
	$(setup) $(PACKAGES_NODE)
	@sh tests/conformance/run.sh '$(URL)' $(CHECKS)
endif

.PHONY: reliability
reliability: all  ## crashes, power losses, full disks, hostile peers, clocks (half an hour; RELIABILITY=short, SUITES="…", SEED=…)
	$(setup) $(PACKAGES_RELIABILITY)
	@sh tests/reliability/run.sh build/release/moonjet $(SUITES)

.PHONY: bench
bench: all  ## measure: one table (BENCH="NAME… --json" for a part, or JSON)
	$(setup) $(PACKAGES_BENCH)
	@build/release/moonjet bench $(if $(wildcard $(FRAMES)),--frames $(FRAMES)) $(BENCH)

.PHONY: fuzz
fuzz:  ## every fuzz target for FUZZ_SECONDS each
	$(setup) $(PACKAGES) $(PACKAGES_FUZZ)
	@sh cmake/build.sh fuzz $(JOBS)
	@sh tests/house/run-fuzz.sh build/fuzz $(FUZZ_SECONDS) $(JOBS)

.PHONY: lint
lint:  ## clang-format, clang-tidy, luacheck, and which room may include which
	$(setup) $(PACKAGES) $(PACKAGES_TEST) $(PACKAGES_LINT)
	@sh cmake/build.sh --configure dev $(JOBS)
	@sh tests/house/lint.sh build/dev $(JOBS)

.PHONY: install
install: all  ## install below PREFIX (/usr/local); DESTDIR for packagers
	@DESTDIR="$(DESTDIR)" cmake --install build/release --prefix "$(PREFIX)"

.PHONY: bare-debian
bare-debian:  ## BARE_TARGETS typed as a newcomer would, in a bare Debian 12 (root, some minutes)
	$(setup) $(PACKAGES_BARE)
	@sh tests/house/bare.sh build/bare $(BARE_TARGETS)

.PHONY: deb
deb:  ## the Debian package: build/moonjet_VERSION_ARCH.deb
	$(setup) $(PACKAGES) $(PACKAGES_DEB)
	@sh cmake/packaging/deb.sh $(JOBS)

.PHONY: deb-test
deb-test: deb  ## lintian, then the package's life in a bare Debian 12 with systemd (root)
	$(setup) $(PACKAGES_DEB_TEST)
	@sh tests/house/deb.sh build/bare build/moonjet_*.deb

.PHONY: setup
setup:  ## what a build needs from the distribution's packages, and Jetstream's zstd dictionary
	$(setup) $(PACKAGES)
	@sh cmake/dictionary.sh build/zstd_dictionary

.PHONY: setup-e2e
setup-e2e:
	$(setup) $(PACKAGES_E2E)

.PHONY: clean
clean:  ## remove everything built
	@rm -rf build

.PHONY: help
help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*  ## /\1\t/p' Makefile | expand -t 14
