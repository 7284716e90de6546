package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/client"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/docker"
)

// completeWait is how long a completion may take. Only tests change it.
var completeWait = time.Second

// completeTarget offers containers, networks, peers and the word all, without those that are given already.
func (c *cli) completeTarget(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
	defer cancel()
	about, err := docker.TargetWords(ctx, c.Client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, given := range args {
		delete(about, given)
	}
	words := api.Map(slices.Sorted(maps.Keys(about)), func(word string) string { return cobra.CompletionWithDesc(word, about[word]) })
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeContainer offers the names of containers, or short ids where Docker tells no name, and other hosts.
func (c *cli) completeContainer(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
	defer cancel()
	words, err := docker.PortWords(ctx, c.Client, cmd.Name() == "trace")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeNetwork offers the names of the daemon's networks, or ids where Docker tells no name.
func (c *cli) completeNetwork(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
	defer cancel()
	all, err := c.Networks(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	d, err := docker.Load(ctx, c.Client)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return api.Map(all, func(n api.Network) string {
		about := "stays on this host"
		if n.VNI != 0 {
			about = "VNI " + human.VNI(n.VNI)
		}
		return cobra.CompletionWithDesc(d.NetworkLabel(n.ID), about)
	}), cobra.ShellCompDirectiveNoFileComp
}

// completePeer offers networks, and for rm, after the network, its peers.
func (c *cli) completePeer(verb string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if verb != "rm" || len(args) != 1 {
			return c.completeNetwork(cmd, args, typed)
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWait)
		defer cancel()
		t, err := docker.FindNetwork(ctx, c.Client, args[0])
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		peers, _ := client.List[api.Peer](ctx, c.Client, api.PeersPath, t.ID) // nothing to offer when the daemon does not answer
		return api.Map(peers, func(p api.Peer) string { return cmp.Or(p.Name, p.Addr) }), cobra.ShellCompDirectiveNoFileComp
	}
}
