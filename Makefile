PREFIX ?= /usr/local
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
UNITS = $$(go list ./... | grep -v /test$$)
GO_BUILD = CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)'
INTO = $(DESTDIR)$(PREFIX)
SHARED = $(INTO)/lib/systemd/system/tapestry.service $(INTO)/share/bash-completion/completions/tapestry \
	$(INTO)/share/zsh/site-functions/_tapestry $(INTO)/share/fish/vendor_completions.d/tapestry.fish

.PHONY: build test deps lint cross unit race fuzz e2e bench bench-check demo install uninstall release clean

build: ## bin/tapestry, one static binary
	$(GO_BUILD) -o bin/tapestry ./cmd/tapestry

test: ## all that CI runs
	@test/steps.sh deps lint build cross unit race fuzz e2e bench-check

deps: ## install what the tests need (Debian, Ubuntu)
	@test/deps.sh dockerd docker ip iptables ping iperf3 tcpdump tshark busybox ethtool stdlib.h

lint:
	@test -z "$$(gofmt -l . | tee /dev/stderr)"
	go vet ./...
	go run $(STATICCHECK) ./...
	go mod tidy -diff

cross: ## the other architecture compiles
	GOARCH=arm64 $(GO_BUILD) -o /dev/null ./cmd/tapestry

unit:
	go test $(UNITS)

race:
	go test -race -short $(UNITS)

fuzz: ## every fuzz target for FUZZTIME (20s)
	@test/fuzz.sh

e2e: build ## real dockerds, real traffic; as root
	go test -count=1 -timeout 20m ./test

bench: build bin/wireguard-go ## tapestry beside what else there is, 14 min, BENCH=--quick 2 min; as root
	bin/tapestry bench $(BENCH)

bench-check: build ## no ratio is below its floor for sure, 4 min; as root
	@if [ "$$(id -u)" != 0 ] && [ "$$TAPESTRY_MUST" != 1 ]; then echo 'skipped: needs root'; else timeout -k 10 300 bin/tapestry bench --check; fi

bin/wireguard-go: go.mod ## the yardstick of a Go tunnel
	CGO_ENABLED=0 go build -o $@ golang.zx2c4.com/wireguard

demo: ## tapestry shows itself; as root
	@test/demo.sh

install: build ## binary, systemd unit, completions
	install -D bin/tapestry $(INTO)/bin/tapestry
	install -d -m 755 $(dir $(SHARED))
	sed 's|/usr/local/bin|$(PREFIX)/bin|' packaging/tapestry.service >$(word 1,$(SHARED))
	bin/tapestry completion bash >$(word 2,$(SHARED))
	bin/tapestry completion zsh >$(word 3,$(SHARED))
	bin/tapestry completion fish >$(word 4,$(SHARED))
	chmod 644 $(SHARED)

uninstall:
	rm -f $(INTO)/bin/tapestry $(SHARED)

release: ## dist/: what a release carries: static binaries, the unit, their sums, a script that installs and checks them
	rm -rf dist && mkdir dist
	GOARCH=amd64 $(GO_BUILD) -o dist/tapestry-linux-amd64 ./cmd/tapestry
	GOARCH=arm64 $(GO_BUILD) -o dist/tapestry-linux-arm64 ./cmd/tapestry
	cp packaging/tapestry.service dist
	packaging/sums.sh dist $(VERSION)

clean:
	rm -rf bin dist
