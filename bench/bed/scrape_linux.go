package bed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tapestry-net/tapestry/bench/results"
)

// Scrapes measures scrapes of a daemon with n endpoints, and of a handler of Prometheus' client with as many series, whose values are constants, in turn, in ms. series is how many each has. binary is the path of tapestry.
func Scrapes(ctx context.Context, binary string, n, rounds int) (ours, plain *results.Series, series int, err error) {
	d, err := newDaemon(ctx, binary)
	if err != nil {
		return nil, nil, 0, err
	}
	defer d.close()
	if _, err := d.start(ctx); err != nil {
		return nil, nil, 0, err
	}
	if err := d.network(ctx); err != nil {
		return nil, nil, 0, err
	}
	if _, err := d.endpoints(ctx, 0, n); err != nil {
		return nil, nil, 0, err
	}
	socket := d.path("/run/tapestry.sock")
	if _, series, err = scrape(ctx, socket); err != nil {
		return nil, nil, 0, err
	}
	at, end, err := servePlain(d, series)
	if err != nil {
		return nil, nil, 0, err
	}
	defer end()
	ours, plain = new(results.Series), new(results.Series)
	for round := -1; round < rounds; round++ { // the first one warms up
		for _, of := range []struct {
			socket string
			*results.Series
		}{{socket, ours}, {at, plain}} {
			took, got, err := scrape(ctx, of.socket)
			if err == nil && got < series*9/10 {
				err = fmt.Errorf("a scrape has %d series, another %d", got, series)
			}
			if err != nil {
				return nil, nil, 0, err
			}
			if round >= 0 {
				of.Rounds, of.Values = append(of.Rounds, round), append(of.Values, float64(took.Microseconds())/1e3)
			}
		}
	}
	return ours, plain, series, nil
}

// scrape reads the metrics at a Unix socket, and tells how long that took and how many series there are.
func scrape(ctx context.Context, socket string) (took time.Duration, series int, err error) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tapestry/metrics", nil)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	res, err := client.Do(req)
	if err != nil {
		return 0, 0, fmt.Errorf("scrape %s: %w", socket, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	took = time.Since(began)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("scrape %s: %s", socket, res.Status)
	}
	for line := range bytes.Lines(text) {
		if line[0] != '#' {
			series++
		}
	}
	return took, series, err
}

// servePlain serves a plain handler at a socket beside the daemon's, until end is called.
func servePlain(d *daemon, series int) (socket string, end func(), err error) {
	r := prometheus.NewRegistry()
	r.MustRegister(constants(series)) // the names differ
	socket = filepath.Join(filepath.Dir(d.path("/run/tapestry.sock")), "plain.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{Handler: promhttp.HandlerFor(r, promhttp.HandlerOpts{DisableCompression: true})}
	go func() { _ = s.Serve(l) }() // it ends by Close
	return socket, func() { _ = s.Close() }, nil
}

// constants are so many series, in families of 1,000, with two labels as a port's.
type constants int

func (constants) Describe(to chan<- *prometheus.Desc) {}

func (n constants) Collect(to chan<- prometheus.Metric) {
	var desc *prometheus.Desc
	for i := range int(n) {
		if i%1000 == 0 {
			desc = prometheus.NewDesc(fmt.Sprintf("bench_%d_total", i/1000), "Constants.", []string{"network", "port"}, nil)
		}
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(i), "0123456789ab", fmt.Sprintf("%012d", i))
	}
}
