package resolver

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BenchmarkUnknown measures what a name that no host of the cluster has costs more here than at the host's own server: µs-more, between the
// medians.
func BenchmarkUnknown(b *testing.B) {
	u := newUpstream(b, says("A 192.0.2.1"))
	r := start(b, upstreamOf(u), nil)
	direct, handedOn := make([]time.Duration, 0, b.N), make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		for at, took := range map[string]*[]time.Duration{u.at.String(): &direct, r.at: &handedOn} {
			began := time.Now()
			if m := ask(b, "udp", at, question("example.com.", dns.TypeA)); values(m) != "192.0.2.1" {
				b.Fatal(m)
			}
			*took = append(*took, time.Since(began))
		}
	}
	slices.Sort(direct)
	slices.Sort(handedOn)
	for name, at := range map[string]int{"p50": b.N / 2, "p99": b.N * 99 / 100} {
		b.ReportMetric(float64(handedOn[at]-direct[at])/1e3, "µs-more-"+name)
		b.ReportMetric(float64(direct[at])/1e3, "µs-direct-"+name)
	}
}
