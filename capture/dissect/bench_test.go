package dissect

import "testing"

// The cost of one line of tapestry watch.
func BenchmarkLine(b *testing.B) {
	for name, frame := range map[string][]byte{
		"SYN":         syn(b),
		"TCP data":    tcpFrame(b, 5, 9000, make([]byte, 1400)),
		"DNS":         udpFrame(b, 53, 40212, response(b)),
		"ClientHello": tcpFrame(b, 5, 443, hello(clientHello, sni("example.com"), alpn, versions)),
		"ARP":         arp(b, 1, "10.77.0.2", "10.77.0.3"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Dissect(frame, len(frame)).Line(nil)
			}
		})
	}
}

func BenchmarkDissect(b *testing.B) {
	frame := tcpFrame(b, 5, 9000, make([]byte, 1400))
	b.ReportAllocs()
	for b.Loop() {
		Dissect(frame, len(frame))
	}
}

func BenchmarkFull(b *testing.B) {
	frame := syn(b)
	b.ReportAllocs()
	for b.Loop() {
		Full(frame)
	}
}
