// Package metrics is what Prometheus reads of a daemon: the names, kinds and meanings of its metrics, and the handler that answers a scrape.
//
// It keeps no counter. A scrape asks for a Snapshot of what the daemon counts anyway, and its values are what Prometheus gets. The number
// of series is bounded: no label has a container's address, and who makes the Snapshot shows so many ports, links and peers at most.
package metrics

import (
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Snapshot is what is so at the moment of a scrape. Counts never become smaller, but when what they are of goes away.
type Snapshot struct {
	Networks []Network
	Ports    []Port
	Links    []Link
	Peers    []Peer
	Hosts    []Host
	Offloads []Offload
	Calls    []Calls
	LeftOut  map[string]int // networks, ports and peers that are not shown, by these words

	TunnelDrops, HostDrops map[string]uint64 // datagrams that no network here got, by reason
	Recorder               Recorder
	Captures               map[string]int    // by state
	CaptureFrames          map[string]uint64 // by what became of them
	Events                 map[string]uint64 // by kind
	Workers                int
}

// Network is one network. It is named by the first twelve digits of its id, as in docker network ls.
type Network struct {
	ID, VNI, Key                                  string
	Endpoints, Learned, Pinned                    int
	Forwarded, Flooded, Answered, TooBig, Lowered uint64
	Moves                                         uint64
	Drops                                         map[string]uint64 // all reasons
}

// Port is one port of a network's switch. It is named by the first twelve digits of the endpoint's id, or a peer's address.
type Port struct {
	Network, Port, Kind, Name            string
	Up                                   bool
	MTU                                  int
	RxFrames, RxBytes, TxFrames, TxBytes uint64
	Refused                              uint64
	Drops                                map[string]uint64 // reasons that have occurred
}

// Link is the tunnel to a peer on one network; counts are datagrams.
type Link struct {
	Network, Peer string
	Tx, Rx        uint64
	Lost          map[string]uint64 // all reasons
}

// Peer is another host, named by its VTEP's address.
type Peer struct {
	Addr      string
	Up        bool // there is a route to it
	Answers   bool
	Test      string        // result of the last test of trains
	RoundTrip time.Duration // 0: not known
	PathMTU   int           // of outer packets; 0: not known
	Ways      []Way         // the way there, and back; none: nothing is known
}

// Way is what became of probes in the last minute on one way to a peer.
type Way struct {
	Name                        string  // there, back
	Lost, Reordered, Duplicated float64 // shares
}

// Host is another host of the cluster.
type Host struct{ Name, Addr, State string }

// Offload is one offload of the kernel, summed up over what could use it.
type Offload struct {
	Name            string
	Users, Off      int
	Refused, Resent uint64
}

// Calls are Docker's calls of one method.
type Calls struct {
	Method  string
	Count   uint64
	Errors  uint64
	Seconds float64            // of all
	Buckets map[float64]uint64 // cumulative, by seconds
}

// Recorder is the flight recorder.
type Recorder struct {
	Bytes       int
	Kept, Drops uint64
}

// inFlight is how many scrapes are answered at a time, and scrapeWait how long one may take: who does not read must not hold memory.
const (
	inFlight   = 8
	scrapeWait = 10 * time.Second
)

// Handler answers scrapes, in Prometheus' formats. Scrapes that come at the same time share one Snapshot.
func Handler(version string, read func() *Snapshot, log *slog.Logger) http.Handler {
	r := prometheus.NewRegistry()
	// None of these can fail: the names differ.
	r.MustRegister(newCollector(version, read), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	h := promhttp.HandlerFor(r, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: inFlight, CoalesceGather: true,
		DisableCompression: true, // of a few hundred KB, most often to this host: to pack them costs more than to make them
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(scrapeWait)) // a test's recorder has none
		h.ServeHTTP(w, r)
	})
}

// collector makes metrics of a Snapshot.
type collector struct {
	version string
	read    func() *Snapshot
	descs   [numMetrics]*prometheus.Desc
}

func newCollector(version string, read func() *Snapshot) *collector {
	c := &collector{version: version, read: read}
	for i, m := range table {
		c.descs[i] = prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
	}
	return c
}

// Describe is that of prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect is that of prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s := c.read()
	send := sender{c, to}
	send.value(buildInfo, 1, c.version, runtime.Version())
	send.value(workers, float64(s.Workers))
	for what, n := range s.LeftOut {
		send.value(leftOut, float64(n), what)
	}
	for i := range s.Networks {
		send.network(&s.Networks[i])
	}
	for i := range s.Ports {
		send.port(&s.Ports[i])
	}
	for i := range s.Links {
		l := &s.Links[i]
		send.count(linkTx, l.Tx, l.Network, l.Peer)
		send.count(linkRx, l.Rx, l.Network, l.Peer)
		send.counts(linkLost, l.Lost, l.Network, l.Peer)
	}
	for i := range s.Peers {
		send.peer(&s.Peers[i])
	}
	for _, h := range s.Hosts {
		send.value(hostState, 1, h.Name, h.Addr, h.State)
	}
	for _, o := range s.Offloads {
		send.value(offloadUsers, float64(o.Users), o.Name)
		send.value(offloadOff, float64(o.Off), o.Name)
		send.count(offloadRefused, o.Refused, o.Name)
		send.count(offloadResent, o.Resent, o.Name)
	}
	for _, calls := range s.Calls {
		to <- prometheus.MustNewConstHistogram(c.descs[callSeconds], calls.Count, calls.Seconds, calls.Buckets, calls.Method)
		send.count(callErrors, calls.Errors, calls.Method)
	}
	send.counts(tunnelDrops, s.TunnelDrops)
	send.counts(hostDrops, s.HostDrops)
	send.value(recorderBytes, float64(s.Recorder.Bytes))
	send.value(recorderKept, float64(s.Recorder.Kept))
	send.value(recorderDrops, float64(s.Recorder.Drops))
	for state, n := range s.Captures {
		send.value(captures, float64(n), state)
	}
	send.counts(captureFrames, s.CaptureFrames)
	send.counts(eventsTotal, s.Events)
}

// A sender sends metrics to a scrape.
type sender struct {
	*collector
	to chan<- prometheus.Metric
}

func (s sender) value(m int, v float64, labels ...string) {
	kind := prometheus.GaugeValue
	if table[m].Kind == Counter {
		kind = prometheus.CounterValue
	}
	s.to <- prometheus.MustNewConstMetric(s.descs[m], kind, v, labels...)
}

func (s sender) count(m int, n uint64, labels ...string) { s.value(m, float64(n), labels...) }

// counts sends a series for each key of by, which is the last label.
func (s sender) counts(m int, by map[string]uint64, labels ...string) {
	for key, n := range by {
		s.count(m, n, append(labels[:len(labels):len(labels)], key)...)
	}
}

func (s sender) truth(m int, is bool, labels ...string) {
	v := 0.0
	if is {
		v = 1
	}
	s.value(m, v, labels...)
}

func (s sender) network(n *Network) {
	s.value(networkInfo, 1, n.ID, n.VNI, n.Key)
	s.value(networkEndpoints, float64(n.Endpoints), n.ID)
	s.counts(networkFrames, map[string]uint64{"forwarded": n.Forwarded, "flooded": n.Flooded, "answered": n.Answered}, n.ID)
	s.counts(networkDrops, n.Drops, n.ID)
	s.count(networkTooBig, n.TooBig, n.ID)
	s.count(networkLowered, n.Lowered, n.ID)
	s.value(fdbEntries, float64(n.Learned), n.ID, "learned")
	s.value(fdbEntries, float64(n.Pinned), n.ID, "pinned")
	s.count(fdbMoves, n.Moves, n.ID)
}

func (s sender) port(p *Port) {
	s.value(portInfo, 1, p.Network, p.Port, p.Kind, p.Name)
	s.truth(portUp, p.Up, p.Network, p.Port)
	s.value(portMTU, float64(p.MTU), p.Network, p.Port)
	s.count(portRxFrames, p.RxFrames, p.Network, p.Port)
	s.count(portRxBytes, p.RxBytes, p.Network, p.Port)
	s.count(portTxFrames, p.TxFrames, p.Network, p.Port)
	s.count(portTxBytes, p.TxBytes, p.Network, p.Port)
	s.count(portRefused, p.Refused, p.Network, p.Port)
	s.counts(portDrops, p.Drops, p.Network, p.Port)
}

func (s sender) peer(p *Peer) {
	s.truth(peerUp, p.Up, p.Addr)
	s.truth(peerAnswers, p.Answers, p.Addr)
	s.value(peerTest, 1, p.Addr, p.Test)
	if p.RoundTrip > 0 {
		s.value(peerRoundTrip, p.RoundTrip.Seconds(), p.Addr)
	}
	if p.PathMTU > 0 {
		s.value(peerMTU, float64(p.PathMTU), p.Addr)
	}
	for _, w := range p.Ways {
		s.value(peerLoss, w.Lost, p.Addr, w.Name)
		s.value(peerReordered, w.Reordered, p.Addr, w.Name)
		s.value(peerDuplicated, w.Duplicated, p.Addr, w.Name)
	}
}
