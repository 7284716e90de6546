package main

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/capture/pcapng"
	"github.com/tapestry-net/tapestry/capture/session"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/human"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

// captureFlags are the values of capture's flags. watch has some of them.
type captureFlags struct{ session.Options }

// newJob is what capture and watch do.
func newJob(c *cli, cmd *cobra.Command, o *session.Options, targets []string) *session.Job {
	return &session.Job{Options: *o, Client: c.Client, Targets: targets, Version: buildVersion().Version,
		CommandLine: "tapestry " + human.ShellQuote(commandWords(cmd)), In: cmd.InOrStdin(), Out: cmd.OutOrStdout(),
		Messages: cmd.ErrOrStderr(), Request: o.ToRequest()}
}

// commonFlags adds the flags that capture and watch share.
func (o *captureFlags) commonFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.Filter, "filter", "f", "",
		"only frames that match `EXPR`, in tcpdump's language (pcap-filter(7)); containers' names are hosts in it")
	f.VarP(usage.Set(&o.Frames, "N", "", parseFrames), "count", "n", "stop after so many frames")
	f.Var(usage.Set(&o.During, "TIME", "", parseSpan), "for", "stop after this time, such as 30s")
	f.BoolVar(&o.Drops, "drops", false, "only frames that the switch dropped")
	f.StringVarP(&o.Read, "read", "r", "", "read from `FILE` (- for stdin) instead of the daemon")
	f.Var(usage.Set(&o.Colour, "WHEN", "auto", oneOf("auto", "always", "never")), "color",
		"auto (on a terminal, without NO_COLOR), always, never")
	o.Colour = "auto"
}

func parseFrames(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n == 0 {
		return 0, errors.New("want a number of frames from 1 on")
	}
	return n, nil
}

func parseSpan(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, errors.New("want a duration of 1s or more, such as 30s or 5m")
	}
	return d, nil
}

func parseKeep(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 99999 {
		return 0, errors.New("want a number of files from 1 to 99999")
	}
	return n, nil
}

func parseSnap(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > pcapng.MaxSnapLen {
		return 0, fmt.Errorf("want a number of bytes from 1 to %d", pcapng.MaxSnapLen)
	}
	return n, nil
}

// parseSize reads a number of bytes: 500000, 100MB, 1GiB.
func parseSize(s string) (int64, error) {
	at := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if at < 0 {
		at = len(s)
	}
	n, err := strconv.ParseFloat(s[:at], 64)
	unit, ok := map[string]float64{"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9,
		"t": 1e12, "tb": 1e12, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}[strings.ToLower(strings.TrimSpace(s[at:]))]
	n *= unit
	if err != nil || !ok || n < 1 || n > 1<<60 {
		return 0, errors.New("want a size such as 100MB or 1GiB")
	}
	return int64(n), nil
}

// parseFileSize reads the size at which the next file begins.
func parseFileSize(s string) (int64, error) {
	n, err := parseSize(s)
	if err == nil && n < 4096 {
		err = errors.New("want 4096 bytes or more, such as 100MB")
	}
	return n, err
}

// parseRing reads the size of a capture's ring, and rounds it up to a power of two, as the daemon requires.
func parseRing(s string) (int, error) {
	n, err := parseSize(s)
	if err != nil || n < api.MinRing || n > api.MaxRing {
		return 0, errors.New("want a size from 256KiB to 256MiB, such as 32MiB")
	}
	ring := api.MinRing
	for int64(ring) < n {
		ring *= 2
	}
	return ring, nil
}

// parseListen reads the address to listen on for Wireshark. Only addresses of the loopback are accepted: who connects sees all
// containers' traffic.
func parseListen(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if host == "localhost" {
		host = "127.0.0.1"
	}
	a, bad := netip.ParseAddr(host)
	if _, badPort := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || badPort != nil {
		return "", errors.New("want ADDR:PORT, such as 127.0.0.1:19000")
	}
	if !a.IsLoopback() {
		return "", errors.New("want an address of this host only, such as 127.0.0.1:19000: whoever connects sees all; from elsewhere come by ssh -L")
	}
	return net.JoinHostPort(host, port), nil
}

// takeFilter stores the words behind -- as the filter, and returns the targets before it.
func (o *captureFlags) takeFilter(cmd *cobra.Command, args []string) (targets []string, err error) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		if cmd.Flags().Changed("filter") {
			return nil, exit.Errorf(exit.Usage, "the filter stands both in --filter and behind --: want it once")
		}
		o.Filter, args = strings.Join(args[n:], " "), args[:n]
	}
	for _, w := range args {
		if w == "" {
			return nil, exit.Errorf(exit.Usage, "a target is empty: want a container's name, network:NAME, peer:HOST, host:NAME, an endpoint's id or all")
		}
	}
	return args, nil
}

// check refuses flags that make no sense together.
func (o *captureFlags) check(cmd *cobra.Command, targets []string) error {
	set := func(names ...string) string {
		for _, n := range names {
			if cmd.Flags().Changed(n) {
				return n
			}
		}
		return ""
	}
	many := []string{"max-size", "every", "keep"}
	own := []string{"filter", "drops", "headers", "ring", "wait", "listen", "read"}
	switch {
	case cmd.Flags().Changed("attach") && o.Attach == "":
		return exit.Errorf(exit.Usage, "--attach is empty: want the number of a capture that tapestry status shows, or its container")
	case o.Attach != "" && len(targets) > 0:
		return exit.Errorf(exit.Usage, "%q with --attach: that capture has its target", targets[0])
	case o.Attach != "" && (o.Filter != "" || set(own...) != ""):
		return exit.Errorf(exit.Usage, "--%s with --attach: that capture has its target and its filter, and keeps whole frames", cmp.Or(set(own...), "filter"))
	case cmd.Flags().Changed("write") && o.Write == "", cmd.Flags().Changed("read") && o.Read == "":
		return exit.Errorf(exit.Usage, "the file's name is empty: want a path, or -")
	case o.Read != "" && len(targets) > 0:
		return exit.Errorf(exit.Usage, "%q with --read: a file has no targets, want a filter, such as -f 'host %s'", targets[0],
			targets[0])
	case o.Read != "" && set("for", "headers", "point", "view", "offload", "annotate", "strict", "wait", "no-limit",
		"listen", "ring", "bytes") != "":
		return exit.Errorf(exit.Usage, "--%s with --read: what is in a file was captured already",
			set("for", "headers", "point", "view", "offload", "annotate", "strict", "wait", "no-limit", "listen", "ring", "bytes"))
	case o.JSON && (o.Write != "" || o.Listen != ""):
		return exit.Errorf(exit.Usage, "--json with --%s: lines of JSON go to stdout, want one of them", set("write", "listen"))
	case o.Bytes > 0 && o.NoLimit:
		return exit.Errorf(exit.Usage, "--bytes with --no-limit: want one of them")
	case o.Write == "" && set(append(many, "pcap", "force")...) != "":
		return exit.Errorf(exit.Usage, "--%s without --write: want a file", set(append(many, "pcap", "force")...))
	case o.Write == "-" && set(many...) != "":
		return exit.Errorf(exit.Usage, "--%s with --write -: want a file's name, many files need names", set(many...))
	case o.Keep > 0 && set("max-size", "every") == "":
		return exit.Errorf(exit.Usage, "--keep without --max-size or --every: when shall the next file begin?")
	case o.Listen != "" && o.Write != "":
		return exit.Errorf(exit.Usage, "--listen with --write: want one of them")
	case o.Headers && o.Offload == "segment":
		return exit.Errorf(exit.Usage, "--headers with --offload segment: want one of them, what is cut must be whole; -s keeps the first bytes of each segment")
	case o.Headers && o.Snap > 0:
		return exit.Errorf(exit.Usage, "--headers with --snap: want one of them")
	case o.Pcap && set("annotate") != "" && o.Annotate != "none":
		return exit.Errorf(exit.Usage, "--annotate with --pcap: classic pcap has no comments, want pcapng")
	}
	return nil
}

// fileFormat sets pcap by the file's name, unless the flag is given.
func (o *captureFlags) fileFormat(cmd *cobra.Command) {
	if !cmd.Flags().Changed("pcap") {
		o.Pcap = strings.EqualFold(filepath.Ext(o.Write), ".pcap")
	}
}
