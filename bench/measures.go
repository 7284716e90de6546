package bench

import (
	"context"
	"slices"
	"time"

	"github.com/tapestry-net/tapestry/bench/bed"
	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
)

// A measure is one kind of transfer, and the figures that it gives.
type measure struct {
	figures []figure
	rank    rank
	length  float64 // of a transfer, in units of the plan's seconds
	least   float64 // seconds that a transfer takes at the least: a search needs several trials
	extra   float64 // seconds that it takes before and after
	warm    bool    // the first transfer of a bed differs from the others, so it is not counted
	run     func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error)
}

// An outcome is the result of one transfer: a value for each figure, or none if the measure does not apply to this bed, and
// the distribution of the first figure if it has one.
type outcome struct {
	values []float64
	cdf    []results.Point
	note   string // what limits the first figure, if the setup does not
}

// A figure is what a value means; each has a case of its own.
type figure struct {
	name, unit string
	lower      bool // lower is better
}

func (m measure) has(name string) bool {
	return slices.ContainsFunc(m.figures, func(f figure) bool { return f.name == name })
}

// A rank says of which setups a measure is taken, and in which plan.
type rank int

const (
	always rank = iota // of every setup
	often              // of every setup but the slow ones
	full               // likewise, in the full plan only
)

// throughput is TCP: Gb/s that arrived.
func throughput(name string, rank rank, flows int, dir traffic.Direction, v6 bool) measure {
	return measure{[]figure{{name: name, unit: "Gb/s"}}, rank, 1, 0, 0, false,
		func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			r, err := b.Stream(ctx, flows, dir, v6, d)
			return outcome{values: []float64{r.Value}}, err
		}}
}

// oneFlow is TCP, with the processor time of the whole machine: both ends and all between.
func oneFlow() measure {
	return measure{[]figure{{name: results.TCPOneFlow, unit: "Gb/s"}, {results.TCPOneFlowCPU, "s/GB", true}}, always, 1, 0, 0, false,
		func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			r, err := b.Stream(ctx, 1, traffic.Forward, false, d)
			return outcome{values: []float64{r.Value, r.CPU / (r.Bytes / 1e9)}}, err
		}}
}

// nestedFlow is TCP in a VXLAN tunnel between the containers.
func nestedFlow() measure {
	return measure{[]figure{{name: results.TCPNested, unit: "Gb/s"}}, full, 1, 0, 0, false,
		func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			r, err := b.NestedStream(ctx, d)
			return outcome{values: []float64{r.Value}}, err
		}}
}

// iperfTime is what a run of iperf3 takes at the least, in seconds: it takes whole seconds only, and the first one differs.
const iperfTime = 2

// iperf is TCP as iperf3 measures it, the tool that most people use.
func iperf(control string) measure {
	return measure{[]figure{{name: "iperf3, 1 flow, " + control, unit: "Gb/s"}}, full, 1, iperfTime, 0.3, false,
		func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			rate, ok, err := b.Iperf(ctx, control, d)
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
	return measure{[]figure{{name: results.UDPSmall, unit: "packets/s"}, {"CPU, UDP 64 B", "s/Mpacket", true}}, rank, 2.5, searchTime, 0, false,
		func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			r, err := b.Packets(ctx, 64, d)
			return outcome{values: []float64{r.Value, r.CPU / (r.Packets / 1e6)}, note: r.Note}, err
		}}
}

func largePackets() measure {
	return measure{[]figure{{name: "UDP 1400 B", unit: "packets/s"}}, full, 2.5, searchTime, 0, false,
		func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			r, err := b.Packets(ctx, 1400, d)
			return outcome{values: []float64{r.Value}, note: r.Note}, err
		}}
}

// echo is requests of some bytes and their answers, one after the other, with the processor time of the whole machine: a
// setup that polls is fast, and this shows what that costs.
func echo() measure {
	return measure{[]figure{{results.EchoP50, "µs", true}, {"TCP echo p99", "µs", true}, {"TCP echo p99.9", "µs", true},
		{"CPU, TCP echo", "s/Mtrip", true}}, always, 1, 0, 0, false,
		func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			l, err := b.Echo(ctx, "tcp", d)
			return outcome{values: []float64{l.P50, l.P99, l.P999, l.CPU / (float64(l.Count) / 1e6)}, cdf: l.CDF}, err
		}}
}

// beside is the time of datagrams' round trips while a third container floods the network: what others feel of it.
func beside() measure {
	return measure{[]figure{{results.FloodP99, "µs", true}, {results.FloodTimes, "times", true}, {"UDP echo p50, beside a flood", "µs", true}}, always, 0.6, 0.4, 0.8, false,
		func(ctx context.Context, b *bed.Bed, d time.Duration) (outcome, error) {
			quiet, loud, err := b.Beside(ctx, d)
			if err != nil {
				return outcome{}, err
			}
			return outcome{values: []float64{loud.P99, loud.P99 / quiet.P99, loud.P50}, cdf: loud.CDF}, nil
		}}
}

// daemonMemory is the memory of tapestry's daemon after the traffic so far: the mean of the hosts.
func daemonMemory() measure {
	return measure{[]figure{{"daemon RSS", "MB", true}}, often, 0, 0, 0, false,
		func(_ context.Context, b *bed.Bed, _ time.Duration) (outcome, error) {
			if b.Setup.Name() != results.Tapestry {
				return outcome{}, nil
			}
			mb, err := b.RSS()
			if err != nil {
				return outcome{}, err
			}
			return outcome{values: []float64{mb}}, nil
		}}
}

// firstPingTime is the time of `docker run` until the container's first ping is answered. Without external, tapestry's
// containers have no docker_gwbridge, which takes Docker some time to connect.
func firstPingTime(name string, rank rank, external bool) measure {
	return measure{[]figure{{name, "ms", true}}, rank, 0, 0, 0.4, true,
		func(ctx context.Context, b *bed.Bed, _ time.Duration) (outcome, error) {
			d, err := b.FirstPing(ctx, external)
			return outcome{values: []float64{float64(d.Microseconds()) / 1e3}}, err
		}}
}

// allRungs are all rungs with all their measures. Those on Docker have only the measures that may differ there.
func allRungs(o Options) []rung {
	bare := func(eight, small rank) []measure {
		return []measure{oneFlow(), throughput(results.TCPEightFlows, eight, 8, traffic.Forward, false), smallPackets(small), echo(),
			throughput("TCP, 1 flow, reverse", full, 1, traffic.Reverse, false), throughput("TCP, 1 flow each way", full, 1, traffic.Both, false),
			throughput("TCP over IPv6, 1 flow", full, 1, traffic.Forward, true), largePackets(), daemonMemory()}
	}
	near := append(bare(often, full), nestedFlow())
	docker := func(driver string) bed.Setup { return &bed.Docker{Driver: driver, Binary: o.Binary, Agent: o.Agent} }
	all := []rung{
		{results.OneHost, []bed.Setup{bed.Tapestry{Binary: o.Binary}, bed.Kernel{}, bed.VDE{}}, false, 0.8, near},
		{results.TwoHosts, []bed.Setup{bed.Tapestry{Binary: o.Binary}, bed.Kernel{TwoHosts: true}, bed.OpenVSwitch{}, bed.WireGuard{Binary: o.Wireguard}}, true, 1.2, bare(full, always)},
		{results.DockerOneHost, []bed.Setup{docker("tapestry"), docker("bridge")}, false, 3,
			[]measure{oneFlow(), iperf("cubic"), iperf("bbr"), throughput(results.TCPEightFlows, full, 8, traffic.Forward, false), echo(), firstPingTime(results.FirstPingNoExternal, often, false), firstPingTime(results.FirstPing, full, true)}},
		{results.DockerTwoHosts, []bed.Setup{docker("tapestry"), docker("overlay")}, true, 6, []measure{oneFlow(), iperf("cubic"), iperf("bbr"), smallPackets(full), echo()}},
	}
	if o.Quick {
		return all
	}
	all = append(all, rung{results.Flood, []bed.Setup{bed.Tapestry{Binary: o.Binary}, bed.Kernel{}}, false, 0.8, []measure{beside()}})
	return append(all, observedRungs(o.Binary)...)
}
