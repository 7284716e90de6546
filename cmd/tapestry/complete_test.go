package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/test/fake"
)

func TestCompleteTarget(t *testing.T) {
	d := fake.NewLiveDocker(t)
	d.Join(fake.WideID, fake.WebContainer, "web", fake.WebID, "10.80.1.2/16")
	known := &client.Client{Socket: fake.Daemon(t, fake.NewFabric()), DockerHost: d.At}
	c := &cli{Client: known}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	got, how := c.completeTarget(cmd, []string{"network:mynet"}, "")
	want := []string{"all\tevery port", "network:80cc33333333\tnetwork", "network:wide\tnetwork",
		"peer:192.0.2.2\tanother host", "peer:2001:db8::2\tanother host", "web\tcontainer"}
	if !slices.Equal(got, want) || how != cobra.ShellCompDirectiveNoFileComp {
		t.Errorf("%q\nwant %q", got, want)
	}
	c.Socket = filepath.Join(t.TempDir(), "none.sock")
	if got, _ := c.completeTarget(cmd, nil, ""); got != nil {
		t.Errorf("without a daemon: %q", got)
	}
}
