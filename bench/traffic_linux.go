package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// A run is what one measured transfer came to.
type run struct {
	value   float64 // Gb/s or packets/s
	note    string  // what the value is bounded by, if not by the way
	cpu     float64 // seconds of the whole machine, for the bytes and packets below
	bytes   float64
	packets float64
}

// latency is of round trips.
type latency struct {
	p50, p99, p999 float64 // µs
	cdf            []traffic.Point
	cpu            float64 // seconds of the whole machine
	count          int
}

// stream gives the Gb/s that arrived, of both directions together, in flows TCP connections each way.
func (b *bed) stream(ctx context.Context, flows int, dir traffic.Direction, v6 bool, d time.Duration) (run, error) {
	return b.streamTo(ctx, b.target(v6), flows, dir, d)
}

// nestedStream is stream of one flow within the tunnel that nest makes.
func (b *bed) nestedStream(ctx context.Context, d time.Duration) (run, error) {
	if err := b.nest(ctx); err != nil {
		return run{}, err
	}
	return b.streamTo(ctx, "10.79.0.2", 1, traffic.Forward, d)
}

func (b *bed) streamTo(ctx context.Context, target string, flows int, dir traffic.Direction, d time.Duration) (run, error) {
	a, err := b.ask(ctx, traffic.Job{Kind: "stream", Flows: flows, Direction: dir, For: d}, target)
	if err == nil && !(a.Value > 0 && a.Bytes > 0) {
		err = errors.New("TCP: nothing arrived")
	}
	return runOf(a), err
}

// packets gives the highest rate of datagrams, with size bytes of UDP payload and in one flow, of which less than 0.5 %
// was lost: those that were received in a second. The processor time is that of all trials that held. Where not even
// a flood loses more, the sender is the bound.
func (b *bed) packets(ctx context.Context, size int, d time.Duration) (run, error) {
	a, err := b.ask(ctx, traffic.Job{Kind: "packets", Size: size, For: d}, b.target(false))
	if err == nil && !(a.Value > 0 && a.Packets > 0) {
		err = errors.New("UDP: nothing arrived")
	}
	r := runOf(a)
	if a.Flood {
		r.note = "as fast as the sender sends"
	}
	return r, err
}

// echo gives the times of round trips of 64 bytes each way, one after the other. network is tcp or udp.
func (b *bed) echo(ctx context.Context, network string, d time.Duration) (latency, error) {
	a, err := b.ask(ctx, traffic.Job{Kind: "echo", Network: network, For: d}, b.target(false))
	if err == nil && !(a.P50 > 0 && a.Count > 0) {
		err = fmt.Errorf("echo over %s: nothing came back", network)
	}
	return latency{p50: a.P50, p99: a.P99, p999: a.P999, cdf: a.CDF, cpu: a.CPU, count: a.Count}, err
}

func runOf(a traffic.Answer) run {
	return run{value: a.Value, cpu: a.CPU, bytes: a.Bytes, packets: a.Packets}
}

// ask lets the agent in container 1 do a job with the one that serves in container 2.
func (b *bed) ask(ctx context.Context, j traffic.Job, target string) (traffic.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, j.For+5*time.Second) // one that is stuck is tried up to four times
	defer cancel()
	text, err := json.Marshal(j)
	if err != nil {
		return traffic.Answer{}, err
	}
	address := net.JoinHostPort(target, fmt.Sprint(traffic.AgentPort))
	out, err := b.containers[0].command(ctx, b.agent, "agent", string(text), address).Output()
	if ctx.Err() != nil {
		return traffic.Answer{}, fmt.Errorf("%s: %w", j.Kind, ctx.Err())
	}
	a, err := traffic.ParseAnswer(out, err)
	if err != nil {
		return traffic.Answer{}, fmt.Errorf("%s: %w", j.Kind, err)
	}
	return a, nil
}
