package bench

import (
	"context"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// A measure is a run of traffic, and the figures that it gives.
type measure struct {
	figures []figure
	rank    rank
	length  float64 // of a run, in units of the plan's seconds
	least   float64 // seconds that a run takes at the least: a search needs several trials
	extra   float64 // seconds that it takes besides
	warm    bool    // the first run is not like the others
	take    func(ctx context.Context, b *bed, d time.Duration) (outcome, error)
}

// An outcome is what a measure gave once: a value for each figure, or none if it says nothing about this bed, and the
// distribution of the first if it has one.
type outcome struct {
	values []float64
	cdf    []traffic.Point
	note   string // what the first is bounded by, if not by the way
}

// A figure is what a case is about.
type figure struct {
	name, unit string
	lower      bool // the lower the better
}

func (m measure) gives(name string) bool {
	return slices.ContainsFunc(m.figures, func(f figure) bool { return f.name == name })
}

// A rank says who takes a measure, and when.
type rank int

const (
	always rank = iota // every way
	often              // every way but the slow ones
	full               // the same, in the full plan only
)

// throughput is TCP: Gb/s that arrived.
func throughput(name string, rank rank, flows int, dir traffic.Direction, v6 bool) measure {
	return measure{[]figure{{name: name, unit: "Gb/s"}}, rank, 1, 0, 0, false,
		func(ctx context.Context, b *bed, d time.Duration) (outcome, error) {
			r, err := b.stream(ctx, flows, dir, v6, d)
			return outcome{values: []float64{r.value}}, err
		}}
}

// oneFlow is TCP, with the processor time of the whole machine that it took: both ends and all between.
func oneFlow() measure {
	return measure{[]figure{{name: tcpOne, unit: "Gb/s"}, {cpuTCP, "s/GB", true}}, always, 1, 0, 0, false,
		func(ctx context.Context, b *bed, d time.Duration) (outcome, error) {
			r, err := b.stream(ctx, 1, traffic.Forward, false, d)
			return outcome{values: []float64{r.value, r.cpu / (r.bytes / 1e9)}}, err
		}}
}

// nestedFlow is TCP within a VXLAN tunnel that the containers have between them.
func nestedFlow() measure {
	return measure{[]figure{{name: tcpNested, unit: "Gb/s"}}, full, 1, 0, 0, false,
		func(ctx context.Context, b *bed, d time.Duration) (outcome, error) {
			r, err := b.nestedStream(ctx, d)
			return outcome{values: []float64{r.value}}, err
		}}
}

// iperfTime is what a run of iperf3 takes, in seconds: it knows whole ones only, and the first is not like the others.
const iperfTime = 2

// iperf is TCP as iperf3 measures it, which is how others do.
func iperf(control string) measure {
	return measure{[]figure{{name: "iperf3, 1 flow, " + control, unit: "Gb/s"}}, full, 1, iperfTime, 0.3, false,
		func(ctx context.Context, b *bed, d time.Duration) (outcome, error) {
			rate, ok, err := b.iperf(ctx, control, d)
			if err != nil || !ok {
				return outcome{}, err
			}
			return outcome{values: []float64{rate}}, nil
		}}
}

// searchTime is what the search for a rate takes at the least, in seconds.
const searchTime = 2

// smallPackets is UDP, with the processor time of the whole machine.
func smallPackets(rank rank) measure {
	return measure{[]figure{{name: udpSmall, unit: "packets/s"}, {"CPU, UDP 64 B", "s/Mpacket", true}}, rank, 2.5, searchTime, 0, false,
		func(ctx context.Context, b *bed, d time.Duration) (outcome, error) {
			r, err := b.packets(ctx, 64, d)
			return outcome{values: []float64{r.value, r.cpu / (r.packets / 1e6)}, note: r.note}, err
		}}
}

func largePackets() measure {
	return measure{[]figure{{name: "UDP 1400 B", unit: "packets/s"}}, full, 2.5, searchTime, 0, false,
		func(ctx context.Context, b *bed, d time.Duration) (outcome, error) {
			r, err := b.packets(ctx, 1400, d)
			return outcome{values: []float64{r.value}, note: r.note}, err
		}}
}

// echo is a request of some bytes and its answer, one after the other, with the processor time of the whole machine: who
// waits by looking is fast, and this is what it costs.
func echo() measure {
	return measure{[]figure{{echoP50, "µs", true}, {"TCP echo p99", "µs", true}, {"TCP echo p99.9", "µs", true},
		{"CPU, TCP echo", "s/Mtrip", true}}, always, 1, 0, 0, false,
		func(ctx context.Context, b *bed, d time.Duration) (outcome, error) {
			l, err := b.echo(ctx, "tcp", d)
			return outcome{values: []float64{l.p50, l.p99, l.p999, l.cpu / (float64(l.count) / 1e6)}, cdf: l.cdf}, err
		}}
}

// residence is what tapestry's daemon keeps in memory after the traffic so far: the mean of the sites.
func residence() measure {
	return measure{[]figure{{"daemon RSS", "MB", true}}, often, 0, 0, 0, false,
		func(_ context.Context, b *bed, _ time.Duration) (outcome, error) {
			if b.way.name() != ourWay {
				return outcome{}, nil
			}
			sum := 0.0
			for _, s := range b.sites {
				mb, err := s.rss()
				if err != nil {
					return outcome{}, err
				}
				sum += mb
			}
			return outcome{values: []float64{sum / float64(len(b.sites))}}, nil
		}}
}

// arrival is `docker run`, until the container has had its first answer to a ping. Without external, tapestry's
// containers have no docker_gwbridge, whose leg costs some of Docker's own time.
func arrival(name string, rank rank, external bool) measure {
	return measure{[]figure{{name, "ms", true}}, rank, 0, 0, 0.4, true,
		func(ctx context.Context, b *bed, _ time.Duration) (outcome, error) {
			d, err := b.arrive(ctx, external)
			return outcome{values: []float64{float64(d.Microseconds()) / 1e3}}, err
		}}
}

// ladder is all rungs, with all that may stand on them. On Docker's only what shows whether it is different there.
func ladder(o Options) []rung {
	bare := func(eight, small rank) []measure {
		return []measure{oneFlow(), throughput(tcpEight, eight, 8, traffic.Forward, false), smallPackets(small), echo(),
			throughput("TCP, 1 flow, reverse", full, 1, traffic.Reverse, false), throughput("TCP, 1 flow each way", full, 1, traffic.Both, false),
			throughput("TCP over IPv6, 1 flow", full, 1, traffic.Forward, true), largePackets(), residence()}
	}
	near := append(bare(often, full), nestedFlow())
	docker := func(driver string) way { return &onDocker{driver: driver, binary: o.Binary, agent: o.Agent} }
	all := []rung{
		{oneHost, []way{tapestry{o.Binary}, kernel{}, vde{}}, false, 0.8, near},
		{twoHosts, []way{tapestry{o.Binary}, kernel{across: true}, openVSwitch{}, wireguard{o.Wireguard}}, true, 1.2, bare(full, always)},
		{dockerOneHost, []way{docker("tapestry"), docker("bridge")}, false, 3,
			[]measure{oneFlow(), iperf("cubic"), iperf("bbr"), throughput(tcpEight, full, 8, traffic.Forward, false), echo(), arrival(pingNoExit, often, false), arrival(firstPing, full, true)}},
		{dockerTwoHosts, []way{docker("tapestry"), docker("overlay")}, true, 6, []measure{oneFlow(), iperf("cubic"), iperf("bbr"), smallPackets(full), echo()}},
	}
	if o.Quick {
		return all
	}
	return append(all, looks(o.Binary)...)
}
