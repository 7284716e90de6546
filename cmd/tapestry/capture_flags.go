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

	"github.com/tapestry-net/tapestry/capture/filter"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// Limits that the daemon sets to a capture which asks for none.
const (
	defaultBytes   = 1 << 30
	defaultSeconds = 3600
)

// captureFlags are those of capture; watch has some of them.
type captureFlags struct {
	filter                                 string
	write, read                            string
	maxBytes, bytes                        int64
	every, during                          time.Duration
	keep, snap, ring                       int
	frames                                 uint64
	point, view, offload, annotate, colour string
	listen, attach                         string
	pcap, force, headers, drops            bool
	strict, wait, noLimit, json, verbose   bool
}

// looking are the flags of capture and watch.
func (o *captureFlags) looking(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&o.filter, "filter", "f", "",
		"only frames that `EXPR` takes, in tcpdump's words (pcap-filter(7)); host knows containers' names")
	f.VarP(set(&o.frames, "N", "", parseFrames), "count", "n", "stop after so many frames")
	f.Var(set(&o.during, "TIME", "", parseSpan), "for", "stop after this time, such as 30s")
	f.BoolVar(&o.drops, "drops", false, "only frames that went nowhere")
	f.StringVarP(&o.read, "read", "r", "", "read from `FILE` (- for stdin) instead of the daemon")
	f.Var(set(&o.colour, "WHEN", "auto", oneOf("auto", "always", "never")), "color",
		"auto (on a terminal, without NO_COLOR), always, never")
	o.colour = "auto"
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

// parseRing reads the memory of a capture, of which the daemon wants a power of two.
func parseRing(s string) (int, error) {
	n, err := parseSize(s)
	if err != nil || n < minRing || n > maxRing {
		return 0, errors.New("want a size from 256KiB to 256MiB, such as 32MiB")
	}
	ring := minRing
	for int64(ring) < n {
		ring *= 2
	}
	return ring, nil
}

// parseListen reads where to wait for Wireshark: this host only, since what is sent there is everybody's traffic.
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

// words takes the filter from behind -- and gives the targets before it.
func (o *captureFlags) words(cmd *cobra.Command, args []string) (targets []string, err error) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		if cmd.Flags().Changed("filter") {
			return nil, failf(exitUsage, "the filter stands both in --filter and behind --: want it once")
		}
		o.filter, args = strings.Join(args[n:], " "), args[:n]
	}
	for _, w := range args {
		if w == "" {
			return nil, failf(exitUsage, "a target is empty: want a container's name, network:NAME, peer:HOST, host:NAME, an endpoint's id or all")
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
	case cmd.Flags().Changed("attach") && o.attach == "":
		return failf(exitUsage, "--attach is empty: want the number of a capture that tapestry status shows, or its container")
	case o.attach != "" && len(targets) > 0:
		return failf(exitUsage, "%q with --attach: that capture has its target", targets[0])
	case o.attach != "" && (o.filter != "" || set(own...) != ""):
		return failf(exitUsage, "--%s with --attach: that capture has its target and its filter, and keeps whole frames", cmp.Or(set(own...), "filter"))
	case cmd.Flags().Changed("write") && o.write == "", cmd.Flags().Changed("read") && o.read == "":
		return failf(exitUsage, "the file's name is empty: want a path, or -")
	case o.read != "" && len(targets) > 0:
		return failf(exitUsage, "%q with --read: a file has no targets, want a filter, such as -f 'host %s'", targets[0],
			targets[0])
	case o.read != "" && set("for", "headers", "point", "view", "offload", "annotate", "strict", "wait", "no-limit",
		"listen", "ring", "bytes") != "":
		return failf(exitUsage, "--%s with --read: what is in a file was captured already",
			set("for", "headers", "point", "view", "offload", "annotate", "strict", "wait", "no-limit", "listen", "ring", "bytes"))
	case o.json && (o.write != "" || o.listen != ""):
		return failf(exitUsage, "--json with --%s: lines of JSON go to stdout, want one of them", set("write", "listen"))
	case o.bytes > 0 && o.noLimit:
		return failf(exitUsage, "--bytes with --no-limit: want one of them")
	case o.write == "" && set(append(many, "pcap", "force")...) != "":
		return failf(exitUsage, "--%s without --write: want a file", set(append(many, "pcap", "force")...))
	case o.write == "-" && set(many...) != "":
		return failf(exitUsage, "--%s with --write -: want a file's name, many files need names", set(many...))
	case o.keep > 0 && set("max-size", "every") == "":
		return failf(exitUsage, "--keep without --max-size or --every: when shall the next file begin?")
	case o.listen != "" && o.write != "":
		return failf(exitUsage, "--listen with --write: want one of them")
	case o.headers && o.offload == "segment":
		return failf(exitUsage, "--headers with --offload segment: want one of them, what is cut must be whole; -s keeps the first bytes of each piece")
	case o.headers && o.snap > 0:
		return failf(exitUsage, "--headers with --snap: want one of them")
	case o.pcap && set("annotate") != "" && o.annotate != "none":
		return failf(exitUsage, "--annotate with --pcap: classic pcap has no comments, want pcapng")
	}
	return nil
}

// finish settles what a file's name says.
func (o *captureFlags) finish(cmd *cobra.Command) {
	if !cmd.Flags().Changed("pcap") {
		o.pcap = strings.EqualFold(filepath.Ext(o.write), ".pcap")
	}
}

// request is what the daemon is asked for, but targets and filter.
func (o *captureFlags) request() captureRequest {
	r := captureRequest{Drops: o.drops, Snap: o.snap, Headers: o.headers, Point: o.point, View: o.view, Offload: o.offload,
		Annotate: o.annotate, Frames: o.frames, Ring: o.ring}
	if !o.limited() {
		r.Bytes, r.Seconds = -1, -1
	}
	if o.during > 0 {
		r.Seconds = o.during.Seconds()
	}
	if o.bytes > 0 {
		r.Bytes = o.bytes
	}
	return r
}

// limited tells whether the default limits hold: for what fills a disk, and is not bounded otherwise.
func (o *captureFlags) limited() bool {
	ring := o.maxBytes > 0 && o.keep > 0
	return (o.write != "" || o.listen != "") && !o.noLimit && !ring
}

// compile reads the filter, and resolves the names in it.
func compile(expr string, host filter.Names) (*filter.Filter, captureFilter, error) {
	return compileFor(pcapng.Ethernet, expr, host)
}

// compileFor is compile for frames of another link type.
func compileFor(link int, expr string, host filter.Names) (*filter.Filter, captureFilter, error) {
	want := captureFilter{Expr: expr}
	f, err := filter.CompileFor(link, expr, func(name string) []netip.Addr {
		all := host(name)
		if len(all) > 0 {
			if want.Names == nil {
				want.Names = make(map[string][]string)
			}
			want.Names[name] = each(all, netip.Addr.String)
		}
		return all
	})
	var bad *filter.SyntaxError
	if errors.As(err, &bad) {
		return nil, want, failf(exitUsage, "the filter cannot be read:\n%s", bad.Caret())
	}
	return f, want, err
}

// spanText writes a duration without what is zero at its end: 1h, not 1h0m0s.
func spanText(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
