package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNetworksRm(t *testing.T) {
	named, away := fakeDocker(t), "unix://"+filepath.Join(t.TempDir(), "none.sock")
	for _, c := range []struct {
		name, docker, busy string
		args               []string
		code               int
		says               string
		forgot             []string
	}{
		{"Docker has forgotten it", named, "", []string{"80cc"}, exitFine, "network 80cc33333333 forgotten", []string{otherID}},
		{"Docker still has it", named, "", []string{"wide"}, exitNo, "use docker network rm wide", nil},
		{"Docker is away", away, "", []string{"80cc"}, exitNo, "--force", nil},
		{"Docker is away, forced", away, "", []string{"80cc", "--force"}, exitFine, "forgotten", []string{otherID}},
		{"a container runs on it", named, otherID, []string{"80cc"}, exitNo, "runs on it", nil},
		{"no such network", named, "", []string{"90c"}, exitNoTarget, "did you mean", nil},
		{"no network named", named, "", nil, exitUsage, "too few arguments", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newFakeHost()
			h.busy = c.busy
			r := tapestry(t, append([]string{"networks", "rm", "--api-socket", fakeDaemon(t, h), "--docker-host", c.docker}, c.args...)...)
			if r.code != c.code || !strings.Contains(r.out+r.stderr, c.says) {
				t.Errorf("exit %d, want %d and %q in %q", r.code, c.code, c.says, r.out+r.stderr)
			}
			if !slices.Equal(h.forgot, c.forgot) {
				t.Errorf("forgot %v, want %v", h.forgot, c.forgot)
			}
		})
	}
}
