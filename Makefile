PREFIX ?= /usr/local
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Alike for all targets, so that packages are compiled once for most of them.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath $(GOFLAGS)
# Those of them that start goroutines: where none is there is no race.
RACES = $$(grep -lE '(^|	)go (func|[a-z])|\.Go\(|\.Parallel\(|AfterFunc\(' $$(go list -f '{{.Dir}}/*.go' $(UNITS) ./bench/bed) | xargs -n 1 dirname | sort -u)
UNITS = $$(go list ./... | grep -v -e /test$$ -e /bench/bed$$)
GO_BUILD = go build -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)'
# What depends on Docker; the rest of e2e is the same with any.
CURRENT = TestConnect TestContainers TestDockerdCrash TestDriver TestGroups TestLifecycle TestManaged TestOptions TestProtocol TestRecorder TestSwarm
# The same with tapestry as a managed plugin: what depends on who starts and ends it, and one test of the rest.
MANAGED = TestConnect TestContainers TestDockerdCrash TestDriver TestFrames TestLifecycle TestOptions TestProtocol
# With a current Docker the containers', lifecycle and crash rows of these.
MANAGED_CURRENT = TestContainers TestDockerdCrash TestDriver TestLifecycle
# What make plugin calls it: NAME or NAME:TAG.
PLUGIN ?= tapestry
INTO = $(DESTDIR)$(PREFIX)
SHARED = $(INTO)/lib/systemd/system/tapestry.service $(INTO)/lib/systemd/system/tapestry-resolver.service $(INTO)/share/bash-completion/completions/tapestry \
	$(INTO)/share/zsh/site-functions/_tapestry $(INTO)/share/fish/vendor_completions.d/tapestry.fish

.PHONY: build check test deps lint cross unit race fuzz e2e-all e2e e2e-current e2e-plugin e2e-plugin-current beds bench bench-check demo install uninstall release plugin plugin-push clean

build: ## bin/tapestry and bin/tapestry-bench, each one static binary
	$(GO_BUILD) -o bin/tapestry ./cmd/tapestry
	$(GO_BUILD) -o bin/tapestry-bench ./cmd/tapestry-bench

check: ## what to run first: no root, no Docker
	@bad=$$(gofmt -l .); test -z "$$bad" || { echo "not gofmt: $$bad" >&2; exit 1; }
	go vet ./...
	go test -vet=off -short $(UNITS) ./bench/bed
	go test -run 'TestArrows|TestComments|TestDaemonAlone|TestDocs|TestLedger|TestPatience|TestSizes|TestSkips' ./test

test: ## all that CI runs; as root
	@test/steps.sh deps lint build cross unit race fuzz e2e-all bench-check

deps: ## install what the tests need (Debian, Ubuntu)
	@test/deps.sh dockerd docker ip iptables ping iperf3 tcpdump tshark busybox ethtool zstd etcd prometheus stdlib.h

lint:
	@bad=$$(gofmt -l .); test -z "$$bad" || { echo "not gofmt: $$bad" >&2; exit 1; }
	go vet ./...
	go vet -tags race ./capture # the only one with files for that
	go run $(STATICCHECK) ./...
	go mod tidy -diff

cross: ## the other architecture compiles
	GOARCH=arm64 $(GO_BUILD) -o /dev/null ./cmd/tapestry
	GOARCH=arm64 $(GO_BUILD) -o /dev/null ./cmd/tapestry-bench

# The time limits are for tests that hang: a busy machine may take many times what a quiet one does. Without go test's own vet, which takes
# longer than most tests: lint looks for the same and more. Four packages at a time, since some wait for most of their time.
unit: ## each room by itself, but the bench's beds; as root, or else a part is skipped
	go test -vet=off -p 4 -timeout 30m $(UNITS)

race: ## the same with the race detector, where there are goroutines; as root, or else a part is skipped
	CGO_ENABLED=1 go test -vet=off -p 4 -timeout 30m -race -short $(RACES)

fuzz: ## every fuzz target: its seeds, then FUZZTIME (3s)
	@test/fuzz.sh

e2e-all: build ## the five after it beside each other, four tests at a time: much of a test is waiting; as root
	@test/pool.sh 4 $(MAKE) --no-print-directory --keep-going --jobs 5 e2e e2e-current e2e-plugin e2e-plugin-current beds

e2e: build ## real dockerds, real traffic, with the machine's Docker; as root
	@test/e2e.sh $(TESTS)

e2e-current: build ## protocol, lifecycle and containers with a current Docker, built once; as root
	@DOCKER_BIN=$$(flock test/docker/build.sh test/docker/build.sh) && export DOCKER_BIN && test/e2e.sh $(or $(TESTS),$(CURRENT))

e2e-plugin: build ## containers, lifecycle and crashes with tapestry as a managed plugin of the machine's Docker; as root
	@TAPESTRY_AS=plugin test/e2e.sh $(or $(TESTS),$(MANAGED))

e2e-plugin-current: build ## containers, lifecycle and crashes so with a current Docker, built once; as root
	@DOCKER_BIN=$$(flock test/docker/build.sh test/docker/build.sh) && export DOCKER_BIN && TAPESTRY_AS=plugin test/e2e.sh $(or $(TESTS),$(MANAGED_CURRENT))

beds: ## the bench's beds: each setup connects two containers, and is gone when its bench is killed; as root, or else skipped
	@test/pool.sh go test -vet=off -timeout 30m ./bench/bed

bench: build bin/wireguard-go ## tapestry beside what else there is, 16 min, BENCH=--quick 2 min; as root
	bin/tapestry bench $(BENCH)

bench-check: build ## no ratio is below its floor for sure, 4 min; as root
	@if [ "$$(id -u)" != 0 ] && [ "$$TAPESTRY_MUST" != 1 ]; then echo 'skipped: needs root'; else timeout -k 10 360 bin/tapestry bench --check; fi

bin/wireguard-go: go.mod ## a tunnel in Go that the bench compares with
	go build -o $@ golang.zx2c4.com/wireguard

demo: ## tapestry shows itself; as root
	@test/demo.sh

install: build ## binaries, systemd units, completions
	install -D -t $(INTO)/bin bin/tapestry bin/tapestry-bench
	install -d -m 755 $(dir $(SHARED))
	sed 's|/usr/local/bin|$(PREFIX)/bin|' packaging/tapestry.service >$(word 1,$(SHARED))
	sed 's|/usr/local/bin|$(PREFIX)/bin|' packaging/tapestry-resolver.service >$(word 2,$(SHARED))
	bin/tapestry completion bash >$(word 3,$(SHARED))
	bin/tapestry completion zsh >$(word 4,$(SHARED))
	bin/tapestry completion fish >$(word 5,$(SHARED))
	chmod 644 $(SHARED)

uninstall:
	rm -f $(INTO)/bin/tapestry $(INTO)/bin/tapestry-bench $(SHARED)

release: ## dist/: what a release carries: static binaries, the units, their sums, a script that installs and checks them
	rm -rf dist && mkdir dist
	for arch in amd64 arm64; do for program in tapestry tapestry-bench; do \
		GOARCH=$$arch $(GO_BUILD) -o dist/$$program-linux-$$arch ./cmd/$$program || exit 1; done; done
	cp packaging/tapestry.service packaging/tapestry-resolver.service dist
	packaging/sums.sh dist $(VERSION)

plugin: build ## a managed plugin of this host's Docker, called PLUGIN (tapestry); as root
	@packaging/plugin.sh create $(PLUGIN)

plugin-push: build ## a managed plugin in a registry: REPO=registry.example.com/tapestry:TAG; as root
	@packaging/plugin.sh push "$(REPO)"

clean:
	rm -rf bin dist
