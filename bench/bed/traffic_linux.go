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

// A Transfer is the result of one measured transfer.
type Transfer struct {
	Value   float64 // Gb/s or packets/s
	Note    string  // what limits the value, if the setup does not; "": the setup
	CPU     float64 // seconds of processor time of the whole machine, for the bytes and packets below
	Bytes   float64
	Packets float64
}

// Latency is the result of round trips, one after the other.
type Latency struct {
	P50, P99, P999 float64 // µs
	CDF            []results.Point
	CPU            float64 // seconds of processor time of the whole machine
	Count          int
}

// Stream sends over flows TCP connections in each direction that dir names. The value is the Gb/s that arrived, of both
// directions together.
func (b *Bed) Stream(ctx context.Context, flows int, dir traffic.Direction, v6 bool, d time.Duration) (Transfer, error) {
	return b.streamTo(ctx, b.address(v6), flows, dir, d)
}

// NestedStream is Stream of one flow in the tunnel that makeNested makes.
func (b *Bed) NestedStream(ctx context.Context, d time.Duration) (Transfer, error) {
	if err := b.makeNested(ctx); err != nil {
		return Transfer{}, err
	}
	return b.streamTo(ctx, "10.79.0.2", 1, traffic.Forward, d)
}

func (b *Bed) streamTo(ctx context.Context, target string, flows int, dir traffic.Direction, d time.Duration) (Transfer, error) {
	a, err := b.ask(ctx, traffic.Job{Kind: "stream", Flows: flows, Direction: dir, For: d}, target)
	if err == nil && !(a.Value > 0 && a.Bytes > 0) {
		err = errors.New("TCP: nothing arrived")
	}
	return transferOf(a), err
}

// Packets searches the highest rate of datagrams, with size bytes of UDP payload and in one flow, at which less than 0.5 %
// is lost. The value is the datagrams that arrived in a second. The processor time is that of all trials that lost so
// little. Where even a sender without a limit loses no more, the sender limits the value.
func (b *Bed) Packets(ctx context.Context, size int, d time.Duration) (Transfer, error) {
	a, err := b.ask(ctx, traffic.Job{Kind: "packets", Size: size, For: d}, b.address(false))
	if err == nil && !(a.Value > 0 && a.Packets > 0) {
		err = errors.New("UDP: nothing arrived")
	}
	r := transferOf(a)
	if a.Flood {
		r.Note = "as fast as the sender sends"
	}
	return r, err
}

// Echo measures round trips of 64 bytes in each direction, one after the other. network is tcp or udp.
func (b *Bed) Echo(ctx context.Context, network string, d time.Duration) (Latency, error) {
	return b.echo(ctx, traffic.Job{Kind: "echo", Network: network, For: d})
}

func (b *Bed) echo(ctx context.Context, j traffic.Job) (Latency, error) {
	a, err := b.ask(ctx, j, b.address(false))
	if err == nil && !(a.P50 > 0 && a.Count > 0) {
		err = fmt.Errorf("echo over %s: no answer came", j.Network)
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

// ask runs a job: an agent in container 1 does it with the one that serves in container 2, at address target.
func (b *Bed) ask(ctx context.Context, j traffic.Job, target string) (traffic.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, j.For+5*time.Second) // a measure that hangs is tried up to four times
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
