package gossip

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/tapestry-net/tapestry/cluster"
	"github.com/tapestry-net/tapestry/cluster/conformance"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// What cannot be right is an error of Start, with what would be.
func TestConfig(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"needs a key":                  func(c *Config) { c.Keys, c.Bind = nil, netip.MustParseAddrPort("192.0.2.1:7948") },
		"gossip on 0.0.0.0:7948 needs": func(c *Config) { c.Keys, c.Bind = nil, netip.MustParseAddrPort("0.0.0.0:0") },
		"gossip on 192.0.2.1:7948":     func(c *Config) { c.Keys, c.Bind = nil, netip.AddrPort{} },
		"key 2 of the cluster has 15":  func(c *Config) { c.Keys = [][]byte{testKey, testKey[:15]} },
		"key 1 of the cluster has 0":   func(c *Config) { c.Keys = [][]byte{nil} },
		`the cluster's name ""`:        func(c *Config) { c.Cluster = "" },
		`the cluster's name "a b"`:     func(c *Config) { c.Cluster = "a b" },
		`join "a:b"`:                   func(c *Config) { c.Join = []string{"a:b"} },
		`join "a:0"`:                   func(c *Config) { c.Join = []string{"a:0"} },
		`join ""`:                      func(c *Config) { c.Join = []string{""} },
		`join "tcp://a"`:               func(c *Config) { c.Join = []string{"tcp://a"} },
		"cannot listen":                func(c *Config) { c.Bind = netip.MustParseAddrPort("192.0.2.1:7948") }, // no address of any machine (RFC 5737)
	} {
		t.Run(want, func(t *testing.T) {
			cfg := newBed(t).config()
			cfg.wire = nil
			change(&cfg)
			e := New(cfg)
			if err := e.Start(conformance.Self(1), func(cluster.Update) { t.Error("sink is called") }); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			testhost.Must(t, e.Close(t.Context()))
		})
	}
	for name, want := range map[string]string{
		"192.0.2.1": "192.0.2.1 7948", "192.0.2.1:80": "192.0.2.1 80", "n1": "n1 7948", "n1.example:80": "n1.example 80",
		"2001:db8::1": "2001:db8::1 7948", "[2001:db8::1]": "2001:db8::1 7948", "[2001:db8::1]:80": "2001:db8::1 80",
	} {
		if host, port, err := splitPort(name, DefaultPort); err != nil || fmt.Sprint(host, " ", port) != want {
			t.Errorf("%s: %s %d, %v", name, host, port, err)
		}
	}
}

// Who has another key, another cluster's name, or no key, never gets in; it is counted, and told once with its address.
func TestStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		count  func(Stats) uint64
		told   string
	}{
		"another key":     {func(c *Config) { c.Keys = [][]byte{[]byte("another key ....")} }, func(s Stats) uint64 { return s.WrongKey }, "another key than this host"},
		"no key":          {func(c *Config) { c.Keys = nil }, func(s Stats) uint64 { return s.WrongKey }, "another key than this host"},
		"another cluster": {func(c *Config) { c.Cluster = "other" }, func(s Stats) uint64 { return s.OtherCluster }, "of another cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			all := b.start(2)
			cfg := b.config()
			other := newBed(t)
			cfg.Log = other.logger()
			c.change(&cfg)
			stranger := start(t, cfg, conformance.Self(9))
			testhost.Until(t, "it is counted again and again", func() bool { return c.count(all[0].Stats()) > 5 && c.count(all[1].Stats()) > 5 })
			for _, h := range all {
				if len(h.dir.Hosts()) != 1 || h.Stats().Messages+h.Stats().Metadata > 0 {
					t.Errorf("%s knows %+v, %+v", h.self.Name, h.dir.Hosts(), h.Stats())
				}
			}
			if n := b.log.Count(c.told); n != 2 || b.log.Count(cfg.Bind.Addr().String()) == 0 {
				t.Errorf("told %d times: %s", n, b.log)
			}
			testhost.Until(t, "the stranger says that nobody answers", func() bool { return other.log.Count("does not answer yet") == 2 && stranger.Status().Err != nil })
			if len(stranger.dir.Hosts()) > 0 {
				t.Errorf("the stranger knows %+v", stranger.dir.Hosts())
			}
			packet := newSeal(cfg.Cluster, cfg.Keys)
			before := c.count(all[0].Stats())
			raw, err := net.Dial("udp", all[0].cfg.Bind.String())
			testhost.Must(t, err)
			defer raw.Close()
			_, err = raw.Write(sealed(t, packet, []byte{0, 0x80}))
			testhost.Must(t, err)
			testhost.Until(t, "its packet is counted", func() bool { return c.count(all[0].Stats()) > before })
		})
	}
}

// sealed is a packet as memberlist sends it.
func sealed(t *testing.T, s *seal, plain []byte) []byte {
	b := append([]byte{labeled, byte(len(s.name))}, s.name...)
	if len(s.aeads) == 0 {
		return append(b, plain...)
	}
	nonce := make([]byte, 12)
	return s.aeads[0].Seal(append(append(b, gcm), nonce...), nonce, plain, []byte(s.name))
}

// The first key encrypts, all decrypt: keys can be changed one host after the other.
func TestKeys(t *testing.T) {
	b := newBed(t)
	was, is := []byte("the key that was"), []byte("the key that is, of 32 bytes ...")
	var all []*host
	for i, keys := range [][][]byte{{was}, {was, is}, {is, was}} {
		cfg := b.config()
		cfg.Keys = keys
		if i == 2 {
			cfg.Join = cfg.Join[1:2] // was alone does not open what this one sends
		}
		all = append(all, start(t, cfg, conformance.Self(1+i)))
	}
	meet(t, all[0], all[1])
	meet(t, all[1], all[2])
}

// What is inside an envelope with the right key may still be made to end the process: memberlist 0.7.0 reads the first byte of an empty
// message, and trusts the length of a padding.
func TestEnvelope(t *testing.T) {
	b := newBed(t)
	all := b.start(2)
	s := all[0].seal
	to := all[0].cfg.Bind.String()
	pad := func() []byte { // version 0 with a padding of 255 bytes
		block, _ := aes.NewCipher(testKey)
		aead, _ := cipher.NewGCM(block)
		nonce := make([]byte, 12)
		return aead.Seal(append([]byte{0}, nonce...), nonce, slices.Repeat([]byte{255}, 16), []byte(s.name))
	}
	label := append([]byte{labeled, byte(len(s.name))}, s.name...)
	frame := func(plain []byte) []byte {
		head := binary.BigEndian.AppendUint32([]byte{encrypted}, uint32(overhead+len(plain)))
		nonce := make([]byte, 12)
		return s.aeads[0].Seal(append(append(append(slices.Clone(label), head...), gcm), nonce...), nonce, plain, append(slices.Clone(head), s.name...))
	}
	for name, packet := range map[string][]byte{"empty": sealed(t, s, nil), "padded": append(slices.Clone(label), pad()...), "none": label, "short": label[:3], "one byte": {labeled}} {
		before := all[0].Stats()
		raw, err := net.Dial("udp", to)
		testhost.Must(t, err)
		_, err = raw.Write(packet)
		testhost.Must(t, err)
		raw.Close()
		testhost.Until(t, name+" is counted", func() bool {
			now := all[0].Stats()
			return now.WrongKey+now.OtherCluster > before.WrongKey+before.OtherCluster
		})
	}
	for name, c := range map[string]struct {
		sent    []byte
		counted bool
	}{
		"empty":     {frame(nil), true},
		"too long":  {append(slices.Clone(label), encrypted, 0xff, 0xff, 0xff, 0xff), false},
		"cut":       {frame([]byte{0, 0x80})[:30], false},
		"no label":  {[]byte("GET / HTTP/1.0\r\n\r\n"), true},
		"plain":     {append(slices.Clone(label), 0, 0x80), true},
		"a message": {frame([]byte{99}), false},
	} {
		before := all[0].Stats()
		raw, err := net.Dial("tcp", to)
		testhost.Must(t, err)
		_, err = raw.Write(c.sent)
		testhost.Must(t, err)
		_ = raw.(*net.TCPConn).CloseWrite() // it may have been reset already
		_, _ = raw.Read(make([]byte, 1000)) // until it is closed
		raw.Close()
		now := all[0].Stats()
		if got := now.WrongKey+now.OtherCluster > before.WrongKey+before.OtherCluster; got != c.counted {
			t.Errorf("%s: counted %v", name, got)
		}
	}
	meet(t, all...)
}

// Only so many connections are open at once, and only so much is read of each.
func TestCrowd(t *testing.T) {
	b := newBed(t)
	all := b.start(2)
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range strangers + 20 {
		c, err := net.Dial("tcp", all[0].cfg.Bind.String())
		testhost.Must(t, err)
		open = append(open, c)
	}
	testhost.Until(t, "the last ones are closed", func() bool { return all[0].Stats().Crowded >= 20 })
	if n := b.log.Count("too many connections"); n != 1 {
		t.Errorf("told %d times", n)
	}
	all[1].Publish(member(3), nil, nil)
	testhost.Until(t, "members still talk", func() bool { return all[0].has(all[1], 3) })
}

// A member that lies about its record, or about another host's, changes nothing but what is known of itself.
func TestLies(t *testing.T) {
	victim := conformance.Self(1)
	encode := func(r cluster.Record) []byte {
		b, err := r.Encode()
		testhost.Must(t, err)
		return b
	}
	for name, c := range map[string]struct {
		record func(liar cluster.Host, seq uint64) []byte
		digest func([]byte) digest
		count  func(Stats) uint64
	}{
		"another's id": {func(_ cluster.Host, seq uint64) []byte {
			return encode(cluster.Record{Host: victim, Seq: seq + 100})
		}, sum, func(s Stats) uint64 { return s.Forged }},
		"not a record": {func(cluster.Host, uint64) []byte { return []byte("{}") }, sum, func(s Stats) uint64 { return s.Records }},
		"a newer version": {func(cluster.Host, uint64) []byte { return []byte(`{"version":99,"record":{"new":1}}`) }, sum,
			func(s Stats) uint64 { return s.Newer }},
		"another address than in its metadata": {func(liar cluster.Host, seq uint64) []byte {
			liar.VTEP = victim.VTEP
			return encode(cluster.Record{Host: liar, Seq: seq})
		}, sum, func(s Stats) uint64 { return s.Records }},
		"another digest": {func(liar cluster.Host, seq uint64) []byte { return encode(cluster.Record{Host: liar, Seq: seq}) },
			func([]byte) digest { return digest{1} }, func(s Stats) uint64 { return s.Records }},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			all := b.start(3)
			for i, h := range all {
				h.Publish(member(i), nil, nil)
			}
			testhost.Until(t, "all know all", func() bool {
				return all[0].has(all[2], 2) && all[1].has(all[0], 0) && all[1].has(all[2], 2) && all[2].has(all[0], 0)
			})
			liar := all[2]
			liar.Engine.mu.Lock()
			liar.own.seq++
			liar.mine = c.record(liar.self, liar.own.seq)
			liar.own.digest = c.digest(liar.mine)
			liar.meta = liar.own.append(nil)
			wake(liar.wakePublish)
			liar.Engine.mu.Unlock()
			testhost.Until(t, "it is refused", func() bool { return c.count(all[0].Stats()) > 0 && c.count(all[1].Stats()) > 0 })
			for _, h := range all[:2] {
				if !h.sees(liar) || !h.has(liar, 2) {
					t.Errorf("%s has lost what the host said before", h.self.Name)
				}
			}
			if !all[1].has(all[0], 0) || len(all[1].dir.Hosts()) != 2 {
				t.Errorf("another host's record has changed: %+v", all[1].dir.Hosts())
			}
			if n := b.log.Count("record is refused"); n != 2 {
				t.Errorf("told %d times: %s", n, b.log)
			}
			liar.Publish(member(7), nil, nil)
			testhost.Until(t, "the truth counts again", func() bool { return all[0].has(liar, 7) && all[1].has(liar, 7) })
		})
	}
	t.Run("unasked", func(t *testing.T) {
		b := newBed(t)
		all := b.start(3)
		lie := encode(cluster.Record{Host: all[1].self, Seq: 1000, Members: member(5)})
		m := message{kind: answer, from: all[1].self.ID, nonce: 12345, record: lie}
		to := &memberlist.Node{Name: string(all[0].self.ID), Addr: all[0].cfg.Bind.Addr().AsSlice(), Port: all[0].cfg.Bind.Port()}
		before := all[0].Stats().Unasked
		testhost.Must(t, all[2].list.SendReliable(to, m.append(nil)))
		testhost.Until(t, "it is counted", func() bool { return all[0].Stats().Unasked > before })
		testhost.Must(t, all[2].list.SendReliable(to, []byte("\x01nonsense")))
		testhost.Until(t, "it is counted", func() bool { return all[0].Stats().Messages == 1 })
		testhost.Must(t, all[2].list.SendReliable(to, []byte{version + 1, 0}))
		testhost.Until(t, "it is counted", func() bool { return all[0].Stats().Newer == 1 })
		if e, _ := all[0].entry(all[1].self.ID); len(e.Members) > 0 {
			t.Errorf("%+v", e)
		}
	})
}

// A host of a newer version is ignored, and told once; what it said before is kept.
func TestNewer(t *testing.T) {
	b := newBed(t)
	all := b.start(3)
	all[2].Publish(member(2), nil, nil)
	testhost.Until(t, "all know it", func() bool { return all[0].has(all[2], 2) && all[1].has(all[2], 2) })
	e := all[2].Engine
	for i := range 3 {
		e.mu.Lock()
		e.meta = append([]byte{version + 1, byte(i)}, e.meta...)
		wake(e.wakePublish)
		e.mu.Unlock()
		testhost.Until(t, "it is ignored", func() bool {
			return all[0].Stats().Newer > uint64(i) && all[1].Stats().Newer > uint64(i) && !all[0].sees(all[2]) && !all[1].sees(all[2])
		})
	}
	for _, h := range all[:2] {
		if !h.has(all[2], 2) {
			t.Errorf("%s has forgotten it", h.self.Name)
		}
	}
	if n := b.log.Count("speaks a newer version"); n != 2 {
		t.Errorf("told %d times: %s", n, b.log)
	}
}

// A member of memberlist that is no tapestry, and has the key and the name, is ignored.
func TestNotOurs(t *testing.T) {
	b := newBed(t)
	all := b.start(2)
	at := address()
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.SecretKey, c.BindAddr, c.BindPort, c.AdvertisePort = "alien", "test", testKey, at.String(), DefaultPort, DefaultPort
	c.Logger = newLogger(lines{New(Config{})})
	alien, err := memberlist.Create(c)
	testhost.Must(t, err)
	defer alien.Shutdown()
	_, err = alien.Join([]string{all[0].cfg.Bind.String()})
	testhost.Must(t, err)
	testhost.Until(t, "it is counted", func() bool { return all[0].Stats().Metadata > 0 })
	if len(all[0].dir.Hosts()) != 1 || b.log.Count("not tapestry's") != 1 || b.log.Count(at.String()) != 1 {
		t.Errorf("%+v, %s", all[0].dir.Hosts(), b.log)
	}
}

// A copied state directory: two hosts with one id. The first one stays, both are told.
func TestCopy(t *testing.T) {
	b := newBed(t)
	all := b.start(3)
	all[2].Publish(member(2), nil, nil)
	testhost.Until(t, "all know it", func() bool { return all[0].has(all[2], 2) && all[1].has(all[2], 2) })
	cfg := b.config()
	twin := start(t, cfg, all[2].self)
	testhost.Until(t, "the first one is told", func() bool { return all[2].Stats().SameID > 0 })
	testhost.Until(t, "the second one is told", func() bool { return twin.Stats().SameID > 0 })
	if b.log.Count("another host has this one's id") < 2 {
		t.Errorf("not told: %s", b.log)
	}
	testhost.Until(t, "the others still know the first one", func() bool { return all[0].has(all[2], 2) && all[1].has(all[2], 2) && all[0].sees(all[2]) })
	if e, _ := all[0].entry(all[2].self.ID); e.VTEP != all[2].self.VTEP {
		t.Errorf("%+v", e)
	}
	twin.close(context.Background(), false)
	meet(t, all...)
}

// A host whose state directory is an old copy counts its starts from there: it is told, and its word does not count until it is the latest.
func TestOldCopy(t *testing.T) {
	b := newBed(t)
	all := b.start(2)
	self := all[1].self
	self.Epoch = 7
	testhost.Must(t, all[1].Close(t.Context()))
	again := start(t, b.config(), self)
	again.Publish(member(1), nil, nil)
	testhost.Until(t, "its word counts", func() bool { return all[0].has(again, 1) })
	again.close(context.Background(), false)
	testhost.Until(t, "it is gone", func() bool { return !all[0].sees(again) })
	self.Epoch = 3
	old := start(t, b.config(), self)
	old.Publish(member(2), nil, nil)
	testhost.Until(t, "it is told", func() bool { return b.log.Count("has started fewer times") == 1 })
	testhost.Until(t, "it is alive", func() bool { return all[0].sees(old) })
	if !all[0].has(again, 1) {
		t.Error("its old word counts")
	}
	old.close(context.Background(), false)
	self.Epoch = 8
	now := start(t, b.config(), self)
	now.Publish(member(3), nil, nil)
	testhost.Until(t, "its word counts again", func() bool { return all[0].has(now, 3) })
}
