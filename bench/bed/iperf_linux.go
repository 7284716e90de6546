package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Iperf returns the Gb/s that iperf3 says have arrived in one TCP flow from container 1 to container 2, with the given
// congestion control. It runs for d, rounded to whole seconds, 1 at least. ok is false if this kernel lacks that
// congestion control.
func (b *Bed) Iperf(ctx context.Context, control string, d time.Duration) (rate float64, ok bool, err error) {
	if why := lacks("iperf3", "iperf3"); why != "" {
		return 0, false, errors.New(why)
	}
	offered, err := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control")
	if err != nil || !slices.Contains(strings.Fields(string(offered)), control) {
		return 0, false, err
	}
	if err := b.serveIperf(ctx); err != nil {
		return 0, false, err
	}
	seconds := max(1, int(d.Round(time.Second).Seconds()))
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+10*time.Second)
	defer cancel()
	text, err := b.containers[0].command(ctx, "iperf3", "--client", b.address(false), "--port", iperfPort, "--time", strconv.Itoa(seconds),
		"--congestion", control, "--json").Output()
	var reply struct {
		Error string
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if e := json.Unmarshal(text, &reply); e != nil {
		return 0, false, errors.Join(err, fmt.Errorf("read the output of iperf3: %w", e))
	}
	switch {
	case reply.Error != "":
		return 0, false, fmt.Errorf("iperf3: %s", reply.Error)
	case err != nil:
		return 0, false, fmt.Errorf("iperf3: %w", err)
	case reply.End.Received.Rate <= 0:
		return 0, false, errors.New("iperf3: nothing arrived")
	}
	return reply.End.Received.Rate / 1e9, true, nil
}

const iperfPort = "5301" // not its default, 5201, which the agent has

// serveIperf starts an iperf3 server in container 2, for as long as the bed.
func (b *Bed) serveIperf(ctx context.Context) error {
	if b.iperfStarted {
		return nil
	}
	err := b.containers[1].start(ctx, "Server listening", "iperf3", "--server", "--port", iperfPort, "--forceflush")
	b.iperfStarted = err == nil
	return err
}

// makeNested gives each container a VXLAN device with the other one as remote, as Docker in Docker has: 10.79.0.1 and
// 10.79.0.2.
func (b *Bed) makeNested(ctx context.Context) error {
	if b.nested {
		return nil
	}
	for i, c := range b.containers {
		if err := c.sh(ctx, `ip link add nested0 type vxlan id 9 dstport 4789 remote 10.77.0.%[2]d dev "$(ip -oneline address show to 10.77.0.%[1]d | cut -d ' ' -f 2)"
			ip address add 10.79.0.%[1]d/24 dev nested0
			ip link set nested0 up`, i+1, 2-i); err != nil {
			return fmt.Errorf("make a tunnel between the containers: %w", err)
		}
	}
	b.nested = true
	return nil
}
