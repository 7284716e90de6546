package gossip

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// TestMetaSize: the longest metadata are far below memberlist's limit.
func TestMetaSize(t *testing.T) {
	m := meta{host: conformance.Self(1), seq: 1 << 63}
	m.host.Epoch, m.host.Name, m.host.VTEP = 1<<63, strings.Repeat("n", 255), netip.MustParseAddrPort("[2001:db8::1]:4789")
	b := m.append(nil)
	if len(b) != 300 || len(b) > memberlist.MetaMaxSize {
		t.Errorf("%d bytes", len(b))
	}
	if got, err := parseMeta(m.host.ID, b); err != nil || got != m {
		t.Errorf("%+v, %v", got, err)
	}
	m.host.Name += "n"
	if err := m.host.Check(); err == nil {
		t.Error("a longer name is allowed")
	}
}

func FuzzMeta(f *testing.F) {
	self := conformance.Self(1)
	good := (&meta{host: self, seq: 3, digest: digest{1, 2}}).append(nil)
	six := meta{host: self}
	six.host.VTEP = netip.MustParseAddrPort("[2001:db8::1]:4789")
	for _, b := range [][]byte{good, six.append(nil), good[:len(good)-1], append(bytes.Clone(good), 0), good[:28], {}, {0}, {version}, {version + 1}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMeta(self.ID, b)
		if err != nil {
			if errors.Is(err, errNewer) != (len(b) > 0 && b[0] > version) {
				t.Errorf("%v", err)
			}
			return
		}
		if again := m.append(nil); !bytes.Equal(again, b) {
			t.Errorf("%x was read, and is written as %x", b, again)
		}
	})
}

// FuzzMessage: whatever a message says, it changes what is known only if it is the answer to what was asked, and of the right host.
func FuzzMessage(f *testing.F) {
	other := conformance.Self(2)
	record, err := (&cluster.Record{Host: other, Seq: 3, Members: member(1)}).Encode()
	testhost.Must(f, err)
	for _, m := range []message{
		{kind: ask, from: other.ID, nonce: 7, epoch: 1, seq: 2}, {kind: answer, from: other.ID, nonce: 7}, {kind: answer, from: other.ID, nonce: 7, record: record},
		{kind: answer, from: other.ID, nonce: 8, record: record}, {kind: answer, from: conformance.Self(3).ID, nonce: 7, record: record}, {kind: 9, from: other.ID},
	} {
		f.Add(m.append(nil))
	}
	f.Add(record)
	f.Add([]byte{version + 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parseMessage(b); err == nil && !bytes.Equal(m.append(nil), b) {
			t.Errorf("%x was read, and is written as %x", b, m.append(nil))
		}
		e := New(Config{})
		e.self = conformance.Self(1)
		e.own = meta{host: e.self}
		p := &peer{id: other.ID, up: true, nonce: 7, meta: meta{host: other, seq: 3, digest: sum(record)}}
		e.peers[other.ID] = p
		messages{e}.NotifyMsg(b)
		e.owe()
		if p.record != nil && (p.record.ID != other.ID || !bytes.Contains(b, []byte(other.ID))) {
			t.Errorf("%+v", p.record)
		}
		if len(e.peers) != 1 {
			t.Error("a message makes a host")
		}
	})
}

// FuzzStream: nothing that a key does not open is let through, neither as a packet nor over a connection, and no more is read than allowed.
func FuzzStream(f *testing.F) {
	s := newSeal("test", [][]byte{testKey})
	t := &testing.T{}
	f.Add(sealed(t, s, []byte{0, 0x80}), true)
	f.Add(sealed(t, newSeal("test", nil), []byte{0, 0x80}), false)
	f.Add([]byte{labeled, 4, 't', 'e', 's', 't', encrypted, 0, 0, 0, 1, 1}, true)
	f.Add([]byte{labeled, 4, 't', 'e', 's', 't', encrypted, 255, 255, 255, 255, 1}, true)
	f.Add([]byte{labeled, 255}, true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, keyed bool) {
		s := s
		if !keyed {
			s = newSeal("test", nil)
		}
		_ = s.packet(b)
		for _, dialed := range []bool{true, false} {
			got, err := s.stream(bytes.NewReader(b), dialed, 1000)
			if err != nil {
				continue
			}
			if !bytes.HasPrefix(b, got) || keyed && len(got) > 1000+500 {
				t.Errorf("%d bytes of %d are let through", len(got), len(b))
			}
		}
	})
}

// FuzzMemberlist: what memberlist itself reads does not end the process, either; here without a key, as on a loopback address.
func FuzzMemberlist(f *testing.F) {
	self := conformance.Self(1)
	at := netip.AddrPortFrom(place(0), DefaultPort)
	plain := func(b ...byte) []byte { return append([]byte{labeled, 4, 't', 'e', 's', 't'}, b...) }
	for kind := range byte(14) {
		f.Add(plain(kind, 0x81, 0xa4, 'N', 'o', 'd', 'e', 0xa1, 'x'))
	}
	f.Add(plain(7, 2, 0, 1, 0, 1, 0, 7))
	f.Add(plain(6, 0x83, 0xa5, 'N', 'o', 'd', 'e', 's', 0xce, 0, 16, 0, 0, 0xac, 'U', 's', 'e', 'r', 'S', 't', 'a', 't', 'e', 'L', 'e', 'n', 1, 0xa4, 'J', 'o', 'i', 'n', 0xc3))
	m := newMemory()
	cfg := Config{Cluster: "test", Bind: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), DefaultPort), wire: m.at(place(0))}
	at = netip.AddrPortFrom(cfg.Bind.Addr(), DefaultPort)
	e := New(cfg)
	testhost.Must(f, e.Start(self, func(cluster.Update) {}))
	f.Cleanup(func() { e.close(context.Background(), false) })
	from := net.UDPAddrFromAddrPort(netip.AddrPortFrom(place(1), DefaultPort))
	f.Fuzz(func(t *testing.T, b []byte) {
		m.host(at).packets <- memoryPacket{bytes.Clone(b), from}
		ctx, cancel := context.WithTimeout(context.Background(), testhost.Patience)
		defer cancel()
		c, err := m.at(place(1)).dial(ctx, place(1), at)
		if err != nil {
			return // too busy
		}
		_ = c.SetDeadline(time.Now().Add(testhost.Patience))
		_, _ = c.Write(b)
		c.Close()
		if s := e.Status(); s.Since.IsZero() {
			t.Error("no status")
		}
	})
}

// TestRecordSize: what 200 hosts with 100 names each have fits many times into what memberlist sends at once, and is not sent at once anyway.
func TestRecordSize(t *testing.T) {
	members, names := hundred(1)
	r := cluster.Record{Host: conformance.Self(1), Seq: 1, Members: members, Names: names}
	b, err := r.Encode()
	testhost.Must(t, err)
	const pushPullLimit = 20 << 20 // of memberlist
	if 200*len(b) > pushPullLimit/4 || !json.Valid(b) {
		t.Errorf("a record of 100 names has %d bytes", len(b))
	}
	t.Logf("a record of 100 names has %d bytes", len(b))
	if (messages{}).LocalState(true) != nil {
		t.Error("records travel with push/pull")
	}
}
