package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/spell"
)

const noCluster = "this host is in no cluster: tapestry run --cluster gossip or etcd joins one"

func newCluster(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Show the cluster that this host is in, and its networks",
		Long: `Show what the hosts of a cluster share: which hosts there are, which networks they have by which key
(-o tapestry.network=KEY), and whose addresses are whose.`,
		Example: `  tapestry cluster status
  tapestry cluster hosts
  tapestry cluster key new >/etc/tapestry/key`,
		Args: usage.Subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		c.clusterTable("status", "Show how this host's connection to its cluster is", "one object with all of it", clusterStatus, func(all api.Cluster) any { return all }),
		c.clusterTable("hosts", "List the hosts of the cluster", "an array, an object for a host", clusterHosts, func(all api.Cluster) any { return all.Hosts }),
		c.clusterTable("networks", "List the networks that hosts share", "an array, an object for a network", clusterNetworks, func(all api.Cluster) any { return all.Networks }),
		c.clusterTable("blocks", "List whose addresses are whose", "an array, an object for a block", clusterBlocks, func(all api.Cluster) any { return all.Blocks }),
		newClusterForget(c), newClusterKey())
	return cmd
}

// clusterTable is a command that shows a part of what the daemon knows of the cluster.
func (c *cli) clusterTable(name, about, object string, print func(*cobra.Command, api.Cluster) error, part func(api.Cluster) any) *cobra.Command {
	cmd := &cobra.Command{
		Use:               name,
		Short:             about,
		Long:              about + ", as this host knows it now." + fmt.Sprintf(jsonHelp, object),
		Example:           "  tapestry cluster " + name + "\n  tapestry cluster " + name + " --json",
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var all api.Cluster
			if err := c.Call(cmd.Context(), http.MethodGet, api.ClusterPath, nil, &all); err != nil {
				return err
			}
			if c.json {
				return human.PrintJSON(cmd.OutOrStdout(), part(all))
			}
			if all.Kind == "" {
				return exit.Errorf(exit.Failure, noCluster)
			}
			return print(cmd, all)
		},
	}
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

func clusterStatus(cmd *cobra.Command, all api.Cluster) error {
	state := "reached"
	if !all.Reachable {
		state = "not reached: " + all.Why
	}
	alive := 0
	for _, h := range all.Hosts {
		if h.State == "alive" || h.State == "this" {
			alive++
		}
	}
	text := fmt.Sprintf("cluster %s by %s: %s, for %s\n%s, %d of them there; %s, %s\n", all.Name, all.Kind, state,
		human.Age(int64(time.Since(all.Since)/time.Second)), human.Plural(len(all.Hosts), "host"), alive,
		human.Plural(len(all.Networks), "network"), human.Plural(len(all.Blocks), "address block"))
	if all.Kind == "swarm" { // which nobody asks, and which has no blocks
		text = fmt.Sprintf("Docker's Swarm, as Docker has told of it\n%s, %d of them there; %s\n", human.Plural(len(all.Hosts), "host"), alive, human.Plural(len(all.Networks), "network"))
	}
	_, err := io.WriteString(cmd.OutOrStdout(), text)
	for _, p := range all.Problems {
		if err == nil {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "problem:", p)
		}
	}
	return err
}

func clusterHosts(cmd *cobra.Command, all api.Cluster) error {
	return human.PrintTable(cmd.OutOrStdout(), []string{"HOST", "VTEP", "STATE", "NETWORKS", "STARTS", "ID"}, api.Map(all.Hosts, func(h api.ClusterHost) []string {
		networks, starts := orNone(h.Networks), fmt.Sprint(h.Epoch)
		if h.Epoch == 0 { // Docker names the nodes of its Swarm, and says no more of them
			starts = "-"
			if h.State != "this" {
				networks = "-"
			}
		}
		return []string{h.Name, h.VTEP, h.State, networks, starts, h.ID}
	}))
}

func clusterNetworks(cmd *cobra.Command, all api.Cluster) error {
	return human.PrintTable(cmd.OutOrStdout(), []string{"NETWORK", "VNI", "SUBNETS", "HERE", "HOSTS"}, api.Map(all.Networks, func(n api.ClusterNetwork) []string {
		here := "no"
		if n.Here {
			here = "yes"
		}
		return []string{n.Key, human.VNI(n.VNI), orNone(n.Subnets), here, orNone(n.Hosts)}
	}))
}

func clusterBlocks(cmd *cobra.Command, all api.Cluster) error {
	return human.PrintTable(cmd.OutOrStdout(), []string{"NETWORK", "BLOCK", "HOST", "STATE", "USED"}, api.Map(all.Blocks, func(b api.ClusterBlock) []string {
		used := ""
		if b.Used != nil {
			used = fmt.Sprint(*b.Used)
		}
		return []string{b.Network, b.Block, b.Host, b.State, used}
	}))
}

func orNone(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

func newClusterForget(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "forget HOST",
		Short: "Remove a host that is gone, with all that it owns",
		Long: `Remove a host that is gone from the cluster. Its blocks of addresses are free for others from then on; so do it only for
a host that will not come back with its containers. HOST is its name or its id.`,
		Example: `  tapestry cluster forget node7`,
		Args:    usage.Arguments(1, 1),
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			var all api.Cluster
			_ = c.Call(cmd.Context(), http.MethodGet, api.ClusterPath, nil, &all)
			return api.Map(all.Hosts, func(h api.ClusterHost) string { return h.Name }), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var all api.Cluster
			if err := c.Call(cmd.Context(), http.MethodGet, api.ClusterPath, nil, &all); err != nil {
				return err
			}
			if all.Kind == "" {
				return exit.Errorf(exit.Failure, noCluster)
			}
			h, err := findHost(all.Hosts, args[0])
			if err != nil {
				return err
			}
			if err := c.Call(cmd.Context(), http.MethodPost, api.ClusterForgetPath, api.ClusterForget{Host: h.ID}, nil); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "host %s (%s) is forgotten\n", h.Name, h.VTEP)
			return err
		},
	}
}

// findHost finds a host by its name or id.
func findHost(hosts []api.ClusterHost, name string) (api.ClusterHost, error) {
	found := slices.DeleteFunc(slices.Clone(hosts), func(h api.ClusterHost) bool { return h.Name != name && h.ID != name })
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return api.ClusterHost{}, exit.Errorf(exit.Usage, "%d hosts are called %s: name one by its id, see tapestry cluster hosts", len(found), name)
	}
	hint := ""
	if near := spell.Nearest(name, api.Map(hosts, func(h api.ClusterHost) string { return h.Name })); len(near) > 0 {
		hint = ", did you mean " + strings.Join(near, " or ") + "?"
	}
	return api.ClusterHost{}, exit.Errorf(exit.NoTarget, "no host %q is in the cluster%s", name, hint)
}

func newClusterKey() *cobra.Command {
	key := &cobra.Command{
		Use:     "key",
		Short:   "Make a key for a cluster of kind gossip",
		Long:    "Make a key that protects a cluster of kind gossip.",
		Example: "  tapestry cluster key new",
		Args:    usage.Subcommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	key.AddCommand(&cobra.Command{
		Use:   "new",
		Short: "Print a new key",
		Long: `Print a new key, random, of 32 bytes in base64. The same one goes into --cluster-key-file of every host: who has it is a
member, and can read and say everything. To change it, write the new one as a second line on all hosts, then as the first one,
then remove the old one; each time restart tapestry.`,
		Example:           "  tapestry cluster key new >/etc/tapestry/key && chmod 600 /etc/tapestry/key",
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var b [32]byte
			_, _ = rand.Read(b[:]) // never fails
			_, err := fmt.Fprintln(cmd.OutOrStdout(), base64.StdEncoding.EncodeToString(b[:]))
			return err
		},
	})
	return key
}
