package main

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/usage"
	"github.com/tapestry-net/tapestry/daemon"
)

// clusterFlagSet are the flags of tapestry run that name the cluster to join.
func clusterFlagSet(s *daemon.ClusterConfig, cmd *cobra.Command) {
	f := cmd.Flags()
	f.Var(usage.Set(&s.Kind, "KIND", "", oneOf(daemon.KindGossip, daemon.KindEtcd, daemon.KindStatic)), "cluster", "`KIND` of the cluster that this host joins, so that hosts find each other: gossip, etcd; static: they are listed by --peer (default none)")
	s.Name = "tapestry"
	f.Var(usage.Set(&s.Name, "NAME", s.Name, parseClusterName), "cluster-name", "`NAME` of the cluster: hosts with another one are never met")
	f.StringSliceVar(&s.Join, "join", nil, "`HOST[:PORT]` of the cluster of --cluster gossip, by address or name, to meet the others by; may be repeated")
	f.StringVar(&s.KeyFile, "cluster-key-file", "", "`FILE` with the key of --cluster gossip, the same on every host (tapestry cluster key new)")
	f.Var(usage.Set(&s.Bind, "ADDR:PORT", "", netip.ParseAddrPort), "cluster-bind", "`ADDR:PORT` where --cluster gossip listens (default the VTEP's address, port "+strconv.Itoa(daemon.GossipPort)+")")
	f.StringSliceVar(&s.Etcd.Endpoints, "etcd", nil, "`URL` of a member of the etcd of --cluster etcd, as in https://192.0.2.5:2379; may be repeated")
	f.StringVar(&s.Etcd.TLS.Cert, "etcd-cert", "", "`FILE` with this host's certificate for etcd, in PEM")
	f.StringVar(&s.Etcd.TLS.Key, "etcd-key", "", "`FILE` with the certificate's key")
	f.StringVar(&s.Etcd.TLS.CA, "etcd-ca", "", "`FILE` with the authorities that may have signed etcd's certificate (default the system's)")
	f.StringVar(&s.Etcd.User, "etcd-user", "", "`NAME` of this host's user at etcd")
	f.StringVar(&s.PasswordFile, "etcd-password-file", "", "`FILE` with the user's password")
	f.StringVar(&s.Etcd.Prefix, "etcd-prefix", "/tapestry", "`PREFIX` of all keys in etcd")
	_ = cmd.RegisterFlagCompletionFunc("cluster", cobra.FixedCompletions([]string{daemon.KindGossip, daemon.KindEtcd, daemon.KindStatic}, cobra.ShellCompDirectiveNoFileComp))
}

func parseClusterName(text string) (string, error) {
	return text, daemon.CheckClusterName(text)
}

// checkCluster refuses flags that belong to another kind of cluster, and finds those that are missing.
func checkCluster(s daemon.ClusterConfig, flags *pflag.FlagSet) error {
	var err error
	flags.Visit(func(f *pflag.Flag) {
		kind := ""
		switch {
		case f.Name == "etcd" || strings.HasPrefix(f.Name, "etcd-"):
			kind = daemon.KindEtcd
		case f.Name == "join" || f.Name == "cluster-bind" || f.Name == "cluster-key-file":
			kind = daemon.KindGossip
		case f.Name == "cluster-name" && s.Kind == "":
			err = exit.Errorf(exit.Usage, "--cluster-name without --cluster")
		}
		if kind != "" && kind != s.Kind && err == nil {
			err = exit.Errorf(exit.Usage, "--%s belongs to --cluster %s", f.Name, kind)
		}
	})
	if err == nil && s.Kind == daemon.KindEtcd && len(s.Etcd.Endpoints) == 0 {
		err = exit.Errorf(exit.Usage, "--cluster etcd wants to know where etcd is: --etcd https://192.0.2.5:2379")
	}
	return err
}
