package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/test/fake"
)

func TestNetworksRm(t *testing.T) {
	named, away := fake.Docker(t), "unix://"+filepath.Join(t.TempDir(), "none.sock")
	for _, c := range []struct {
		name, Engine, busy string
		args               []string
		code               int
		says               string
		forgot             []string
	}{
		{"Docker has forgotten it", named, "", []string{"80cc"}, exit.OK, "network 80cc33333333 forgotten", []string{fake.OtherID}},
		{"Docker still has it", named, "", []string{"wide"}, exit.Failure, "use docker network rm wide", nil},
		{"Docker is away", away, "", []string{"80cc"}, exit.Failure, "--force", nil},
		{"Docker is away, forced", away, "", []string{"80cc", "--force"}, exit.OK, "forgotten", []string{fake.OtherID}},
		{"a container runs on it", named, fake.OtherID, []string{"80cc"}, exit.Failure, "runs on it", nil},
		{"no such network", named, "", []string{"90c"}, exit.NoTarget, "did you mean", nil},
		{"no network named", named, "", nil, exit.Usage, "too few arguments", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := fake.NewFabric()
			h.Busy = c.busy
			r := tapestry(t, append([]string{"networks", "rm", "--api-socket", fake.Daemon(t, h), "--docker-host", c.Engine}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.out+r.stderr, c.says) {
				t.Errorf("exit %d, want %d and %q in %q", r.code, c.code, c.says, r.out+r.stderr)
			}
			if !slices.Equal(h.Forgot, c.forgot) {
				t.Errorf("forgot %v, want %v", h.Forgot, c.forgot)
			}
		})
	}
}
