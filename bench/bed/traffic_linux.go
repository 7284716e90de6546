package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/tapestry-net/tapestry/bench/results"
	"github.com/tapestry-net/tapestry/bench/traffic"
)

// A Transfer is what one measured transfer came to.
type Transfer struct {
	Value   float64 // Gb/s or packets/s
	Note    string  // what the value is bounded by, if not by the way
	CPU     float64 // seconds of the whole machine, for the bytes and packets below
	Bytes   float64
	Packets float64
}

// Latency is of round trips.
type Latency struct {
	P50, P99, P999 float64 // µs
	CDF            []results.Point
	CPU            float64 // seconds of the whole machine
	Count          int
}

// Stream gives the Gb/s that arrived, of both directions together, in flows TCP connections each way.
func (b *Bed) Stream(ctx context.Context, flows int, dir traffic.Direction, v6 bool, d time.Duration) (Transfer, error) {
	return b.streamTo(ctx, b.address(v6), flows, dir, d)
}

// NestedStream is stream of one flow within the tunnel that nest makes.
func (b *Bed) NestedStream(ctx context.Context, d time.Duration) (Transfer, error) {
	if err := b.makeNested(ctx); err != nil {
		return Transfer{}, err
	}
	return b.streamTo(ctx, "10.79.0.2", 1, traffic.Forward, d)
}

func (b *Bed) streamTo(ctx context.Context, target string, flows int, dir traffic.Direction, d time.Duration) (Transfer, error) {
	a, err := b.Ask(ctx, traffic.Job{Kind: "stream", Flows: flows, Direction: dir, For: d}, target)
	if err == nil && !(a.Value > 0 && a.Bytes > 0) {
		err = errors.New("TCP: nothing arrived")
	}
	return transferOf(a), err
}

// Packets gives the highest rate of datagrams, with size bytes of UDP payload and in one flow, of which less than 0.5 %
// was lost: those that were received in a second. The processor time is that of all trials that held. Where not even
// a flood loses more, the sender is the bound.
func (b *Bed) Packets(ctx context.Context, size int, d time.Duration) (Transfer, error) {
	a, err := b.Ask(ctx, traffic.Job{Kind: "packets", Size: size, For: d}, b.address(false))
	if err == nil && !(a.Value > 0 && a.Packets > 0) {
		err = errors.New("UDP: nothing arrived")
	}
	r := transferOf(a)
	if a.Flood {
		r.Note = "as fast as the sender sends"
	}
	return r, err
}

// Echo gives the times of round trips of 64 bytes each way, one after the other. network is tcp or udp.
func (b *Bed) Echo(ctx context.Context, network string, d time.Duration) (Latency, error) {
	a, err := b.Ask(ctx, traffic.Job{Kind: "echo", Network: network, For: d}, b.address(false))
	if err == nil && !(a.P50 > 0 && a.Count > 0) {
		err = fmt.Errorf("echo over %s: nothing came back", network)
	}
	l := Latency{P50: a.P50, P99: a.P99, P999: a.P999, CPU: a.CPU, Count: a.Count}
	for _, p := range a.CDF {
		l.CDF = append(l.CDF, results.Point(p))
	}
	return l, err
}

func transferOf(a traffic.Answer) Transfer {
	return Transfer{Value: a.Value, CPU: a.CPU, Bytes: a.Bytes, Packets: a.Packets}
}

// Ask lets the agent in container 1 do a job with the one that serves in container 2.
func (b *Bed) Ask(ctx context.Context, j traffic.Job, target string) (traffic.Answer, error) {
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
