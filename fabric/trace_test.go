package fabric

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fault"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// framed is an Ethernet frame with a type for experiments, length bytes long.
func framed(src, dst ether.MAC, length int) []byte {
	b := append(append([]byte{}, dst[:]...), src[:]...)
	return append(append(b, 0x88, 0xb5), make([]byte, length-ether.HeaderLen)...)
}

func (h *host) trace(r TraceRequest) TraceView {
	h.t.Helper()
	v, err := h.Trace(h.t.Context(), r)
	if err != nil {
		h.t.Fatal(err)
	}
	return v
}

func stepOf(v TraceView, check string) (s TraceStep) {
	for _, s := range v.Steps {
		if s.Check == check {
			return s
		}
	}
	return s
}

func egressOf(v TraceView) (names []string) {
	for _, w := range v.Egress {
		if w.Verdict == "forwarded" {
			names = append(names, w.Name)
		}
	}
	return names
}

func TestTrace(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(wide(1, 81, "127.0.0.2"))
	h.container(netID(1), ep(1))
	h.container(netID(1), ep(2))
	if err := h.SetFault(t.Context(), epID(2), To, fault.Spec{Loss: .02, Seed: 7}); err != nil {
		t.Fatal(err)
	}
	const peer = "127.0.0.2"
	far := ether.MAC{2, 0x42, 10, 77, 9, 9}
	trace := func(port string, src, dst ether.MAC, length int) TraceView {
		t.Helper()
		return h.trace(TraceRequest{Network: netID(1), Port: port, Frame: framed(src, dst, length)})
	}

	before := [2]any{h.Ports(netID(1)), h.Entries(netID(1))}
	v := trace(epID(1), ep(1).MAC, ep(2).MAC, 60)
	if v.Verdict != "forwarded" || v.Drop || v.VNI != 81 || !reflect.DeepEqual(egressOf(v), []string{epID(2)}) {
		t.Errorf("to a container: %+v", v)
	}
	if w := v.Egress[0]; w.Kind != "container" || w.Link == "" || w.MTU == 0 || w.Limit != w.MTU+18 || !w.GSO || !strings.Contains(w.Faults, "loss 2%") || v.In.Faults != "" || v.In.Link == "" {
		t.Errorf("its egress: %+v", w)
	}
	if s := stepOf(v, "source"); s.Found != "pinned" || s.Port != epID(1) || s.MAC != ep(1).MAC {
		t.Errorf("its source: %+v", s)
	}
	if err := h.SetFault(t.Context(), epID(2), From, fault.Spec{Loss: .03, Seed: 7}); err != nil {
		t.Fatal(err)
	}
	if s := stepOf(trace(epID(2), ep(2).MAC, far, 60), "fault"); s.Found != "none" || !strings.Contains(s.Why, "loss 3%") {
		t.Errorf("the fault of its port: %+v", s)
	}

	v = trace(epID(1), ep(1).MAC, far, 60)
	if v.Verdict != "flooded" || !reflect.DeepEqual(egressOf(v), []string{epID(2), peer}) && !reflect.DeepEqual(egressOf(v), []string{peer, epID(2)}) {
		t.Errorf("to nobody known: %+v", v)
	}
	for _, w := range v.Egress {
		if w.Name == peer && (w.Kind != "remote" || w.Addr.Addr() != netip.MustParseAddr(peer) || w.Overhead != 50 ||
			w.PathMTU != w.MTU+50 || w.Limit != w.MTU+14 || !w.GSO && w.GSOWhy == "") {
			t.Errorf("the egress to the peer: %+v", w)
		}
	}
	if v = trace(epID(1), ep(2).MAC, far, 60); v.Verdict != "spoofed" || !v.Drop || stepOf(v, "source").Port != epID(2) {
		t.Errorf("with another's address: %+v", v)
	}
	if v = trace(peer, far, ep(1).MAC, 60); v.Verdict != "forwarded" || stepOf(v, "source").Found != "new" || v.In.Kind != "remote" {
		t.Errorf("from the peer: %+v", v)
	}
	if v = h.trace(TraceRequest{Network: netID(1), Port: epID(1), Frame: framed(ep(1).MAC, ep(2).MAC, 60), Off: ether.Offload{Kind: ether.TCP4}}); v.Verdict != "offload" {
		t.Errorf("with a false offload request: %+v", v)
	}
	if v = h.trace(TraceRequest{Network: netID(1), Port: epID(1)}); v.Verdict != "runt" {
		t.Errorf("nothing: %+v", v)
	}
	if after := [2]any{h.Ports(netID(1)), h.Entries(netID(1))}; !reflect.DeepEqual(before, after) {
		t.Errorf("tracing has changed %+v into %+v", before, after)
	}

	frame := append(framed(ep(1).MAC, ep(2).MAC, 14), "injected"...)
	v = h.trace(TraceRequest{Network: netID(1), Port: epID(1), Frame: frame, Inject: true})
	if v.Injected != "forwarded" || v.Verdict != "forwarded" {
		t.Errorf("injected: %+v", v)
	}
	h.m.dev(t, epID(2)).expect(t, "injected")
	h.trace(TraceRequest{Network: netID(1), Port: peer, Frame: framed(far, ep(1).MAC, 60), Inject: true})
	if s := stepOf(trace(epID(1), ep(1).MAC, far, 60), "destination"); s.Found != "learned" || s.Port != peer {
		t.Errorf("the address that was learned: %+v", s)
	}
	if v = trace(epID(1), ep(1).MAC, far, 65536); v.Verdict != "mtu" || v.Bytes != 65536 || stepOf(v, "length").Found != "long" {
		t.Errorf("a long frame to the peer: %+v", v)
	}
	if v = trace(peer, ether.MAC{2, 0, 0, 0, 0, 1}, far, 60); v.Verdict != "hairpin" {
		t.Errorf("back to the peer: %+v", v)
	}
}

// What is down is an answer, what is not there an error.
func TestTraceDown(t *testing.T) {
	h := newHost(t)
	h.mustNetwork(local(1))
	h.container(netID(1), ep(1))
	h.container(netID(1), ep(2))
	h.m.dev(t, epID(2)).snap(errors.New("file descriptor in bad state"))
	testhost.Until(t, "down, though its TAP is broken", func() bool { return h.containers()[1].Down != "" })
	v := h.trace(TraceRequest{Network: netID(1), Port: epID(2), Frame: framed(ep(2).MAC, ep(1).MAC, 60), Inject: true})
	if s := stepOf(v, "port"); v.Verdict != "detached" || !v.Drop || s.Found != "down" || !strings.Contains(s.Why, "bad state") || v.Injected != "" {
		t.Errorf("from a port that is down: %+v", v)
	}
	v = h.trace(TraceRequest{Network: netID(1), Port: epID(1), Frame: framed(ep(1).MAC, ep(2).MAC, 60)})
	if s := stepOf(v, "destination"); v.Verdict != "flooded" || len(v.Egress) != 0 || s.Found != "unknown" || s.Port != epID(2) || !strings.Contains(s.Why, "bad state") {
		t.Errorf("to a container that is down: %+v", v)
	}
	for _, tc := range []struct {
		network, port string
		length        int
		is            error
		says          string
	}{
		{netID(9), epID(1), 60, ErrNoNetwork, netID(9)[:12]},
		{netID(1), epID(9), 60, ErrNoEndpoint, epID(9)[:12]},
		{netID(1), "", 60, ErrNoEndpoint, `endpoint ""`},
		{netID(1), "127.0.0.2", 60, ErrNoPeer, "127.0.0.2"},
		{netID(1), epID(1), ether.MaxFrame + 1, nil, "at most"},
	} {
		_, err := h.Trace(t.Context(), TraceRequest{Network: tc.network, Port: tc.port, Frame: framed(ep(1).MAC, ep(2).MAC, tc.length), Inject: true})
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%.12s %.12s: %v", tc.network, tc.port, err)
		}
	}
}
