package bed

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/tapestry-net/tapestry/bench/traffic"
)

// Beside measures round trips of datagrams, one each millisecond, between containers 1 and 2: at first with nothing beside, then while container 3, which it adds
// to the bed, sends frames to everybody from ever new addresses, as fast as it can.
func (b *Bed) Beside(ctx context.Context, d time.Duration) (quiet, loud Latency, err error) {
	if len(b.containers) < 3 {
		c, err := b.Setup.AddContainer(ctx, b.hosts[0], 3)
		if c != nil {
			b.containers = append(b.containers, c)
		}
		if err != nil {
			return quiet, loud, fmt.Errorf("make container 3: %w", err)
		}
	}
	if quiet, err = b.paced(ctx, d); err != nil {
		return quiet, loud, err
	}
	flooding, end := context.WithCancel(ctx)
	defer end()
	cmd := b.containers[2].command(flooding, b.agent, "agent", "flood", "eth0")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return quiet, loud, fmt.Errorf("start the flood: %w", err)
	}
	defer func() {
		end()
		_ = cmd.Wait() // that it was killed
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return quiet, loud, fmt.Errorf("start the flood: %w: %s", err, line)
	}
	loud, err = b.paced(ctx, d)
	return quiet, loud, err
}

// paced is Echo of datagrams, with pauses: as pings of others' would be.
func (b *Bed) paced(ctx context.Context, d time.Duration) (Latency, error) {
	return b.echo(ctx, traffic.Job{Kind: "echo", Network: "udp", For: d, Every: time.Millisecond})
}
