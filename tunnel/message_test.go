package tunnel

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/tapestry-net/tapestry/test/packets"
)

func TestTrainShapes(t *testing.T) {
	for _, full := range []int{2 * messageHeadLen, 82, 540, 1464, 8964, 65500} {
		for i, s := range trainShapes(full) {
			size := (s.n-1)*(s.size+headerLen) + s.last + headerLen
			if s.n < 2 || s.n > maxTrain || size > trainBytes || s.size > full || s.last > s.size || s.last < messageHeadLen {
				t.Errorf("full %d, shape %d: %+v", full, i, s)
			}
			l, w := &Link{}, new(sendBatch)
			for j, f := range s.frames(message{kind: kindSegment, nonce: 7}, packets.Data(s.size-messageHeadLen)) {
				l.addFrame(w, j, f)
				m, intact, ok := parse(f.Bytes())
				if !intact || !ok || int(m.index) != j || m.nonce != 7 || m.kind != kindSegment {
					t.Fatalf("segment %d: %+v", j, m)
				}
			}
			if w.nTrains != 1 {
				t.Errorf("full %d, shape %d: %d trains", full, i, w.nTrains)
			}
		}
	}
	if (shape{n: 64}).all() != 1<<64-1 || (shape{n: 2}).all() != 3 {
		t.Error("all is not all")
	}
}

// FuzzMessage: whatever comes is read without panic, nothing but what was sent is intact, and what is read is bounded.
func FuzzMessage(f *testing.F) {
	seed := func(m message, body []byte) {
		b := append(make([]byte, messageHeadLen), body...)
		m.encode(b)
		f.Add(b)
	}
	var r report
	r.countSegment(message{shape: 1, mode: 1, index: 63}, true)
	body := make([]byte, reportLen)
	r.encode(body)
	seed(message{kind: kindOpen, nonce: 1}, nil)
	seed(message{kind: kindSegment, shape: 3, mode: 1, index: 63, nonce: 1<<64 - 1}, packets.Data(500))
	seed(message{kind: kindAsk, ask: 255}, nil)
	seed(message{kind: kindAnswer, ask: 3, features: 1}, body)
	seed(message{kind: kindProbe, index: burstMost - 1, nonce: 9}, make([]byte, tallyLen))
	seed(message{kind: kindProbe, index: burstMost, nonce: 9}, nil)
	seed(message{kind: kindProbe, mode: total, ask: 1, nonce: 9}, make([]byte, tallyLen))
	seed(message{kind: kindEcho, index: 255, nonce: 9}, []byte{255, 255, 255})
	seed(message{kind: kindEcho, mode: total, ask: 1, nonce: 9}, []byte{3, 1, 0})
	seed(message{kind: 77}, packets.Data(3))
	f.Add([]byte(nil))
	f.Add(make([]byte, messageHeadLen))
	p := &Peer{v: &VTEP{}, budgetLeft: 1 << 62}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, intact, ok := parse(b)
		if intact && !ok || ok && len(b) < messageHeadLen {
			t.Fatalf("%x: %v, %v", b, intact, ok)
		}
		asks := m.kind == kindOpen || m.kind == kindAsk || m.kind == kindProbe
		if answer, ok := p.handleMessage(m, intact); ok && (!intact || !asks || len(answer.body) > reportLen) {
			t.Fatalf("%+v is answered: %+v", m, answer)
		}
		p.prober.questions, p.prober.sent = 1, burstMost
		p.prober.echoes = burst{nonce: 9}
		p.prober.end()
		if h := p.prober.health(); h != nil && (h.Lost.There > h.Sent.There || h.Lost.Back > h.Sent.Back || h.Sent.Back > h.Sent.There || min(h.Lost.There, h.Lost.Back, h.Reordered.There, h.Reordered.Back) < 0) {
			t.Fatalf("%+v", h)
		}
		if intact {
			again := bytes.Clone(b)
			m.encode(again)
			if !bytes.Equal(again[12:], b[12:]) {
				t.Fatalf("%x is written %x", b, again)
			}
			spoiled := bytes.Clone(b)
			spoiled[14+binary.BigEndian.Uint32(b[32:])%uint32(len(b)-14)] ^= 1
			if _, intact, _ := parse(spoiled); intact {
				t.Fatalf("%x is intact", spoiled)
			}
		}
		var r report
		if r.decode(m.body) {
			out := make([]byte, reportLen)
			r.encode(out)
			if !bytes.Equal(out[1:], m.body[1:reportLen]) {
				t.Fatalf("%x is written %x", m.body, out)
			}
		}
	})
}
