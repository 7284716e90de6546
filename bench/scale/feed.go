package scale

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/cluster/gossip"
)

// A feeder is many hosts that gossip with one real member, as far as it can see: on as many loopback addresses, with two sockets. It
// speaks memberlist's protocol (v0.7.0: net.go) and, within that, tapestry's (cluster/gossip: meta.go), without encryption.
type feeder struct {
	udp     *net.UDPConn
	tcp     *net.TCPListener
	port    uint16
	label   []byte
	running sync.WaitGroup

	mu      sync.Mutex // guards what follows
	records [][]byte   // by host, encoded
	metas   [][]byte
	state   []byte // all hosts, as memberlist exchanges them

	asked atomic.Int64
}

// Kinds of memberlist's messages.
const (
	kindPing, kindAck, kindAlive, kindPushPull, kindCompound, kindUser = 0, 2, 4, 6, 7, 8
	labeled                                                            = 244
)

// pushed is one host as memberlist exchanges them.
type pushed struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       int
	Vsn         []uint8
}

var versions = []uint8{1, 4, 2, 0, 0, 0} // 4: without CRC

// newFeeder is n hosts, from 1 on, of a cluster.
func newFeeder(cluster string, n int) (*feeder, error) {
	f := &feeder{label: append([]byte{labeled, byte(len(cluster))}, cluster...)}
	// All addresses of loopback, and of nothing else.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		err2 := c.Control(func(fd uintptr) {
			if err = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo"); err == nil {
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1) // not for TCP
			}
		})
		return errors.Join(err, err2)
	}}
	l, err := lc.Listen(context.Background(), "tcp4", "0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	f.tcp = l.(*net.TCPListener)
	f.port = uint16(l.Addr().(*net.TCPAddr).Port)
	u, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf("0.0.0.0:%d", f.port))
	if err != nil {
		l.Close()
		return nil, err
	}
	f.udp = u.(*net.UDPConn)
	_ = f.udp.SetReadBuffer(4 << 20) // what the kernel gives
	for i := range n + 1 {
		if err := f.set(i, 1, ""); err != nil {
			f.close()
			return nil, err
		}
	}
	var b bytes.Buffer
	b.WriteByte(kindPushPull)
	all := []any{struct {
		Nodes        int
		UserStateLen int
		Join         bool
	}{Nodes: n}}
	for i := 1; i <= n; i++ {
		all = append(all, pushed{Name: string(record(i).ID), Addr: f.at(i).Addr().AsSlice(), Port: f.port, Meta: f.metas[i], Incarnation: 1, Vsn: versions})
	}
	for _, v := range all {
		if err := codec.NewEncoder(&b, new(codec.MsgpackHandle)).Encode(v); err != nil {
			f.close()
			return nil, err
		}
	}
	f.state = b.Bytes()
	f.running.Go(f.packets)
	f.running.Go(f.streams)
	return f, nil
}

// at is where the i-th host gossips.
func (f *feeder) at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(100 + os.Getpid()%80 + i>>16), byte(i >> 8), byte(i)}), f.port)
}

// host is who gossips at an address.
func (f *feeder) host(a netip.Addr) int {
	b := a.As4()
	return int(b[2])<<8 | int(b[3])
}

// set makes what a host says. name is a container's; "": none.
func (f *feeder) set(i int, seq uint64, name string) error {
	r := record(i)
	r.Seq = seq
	if name != "" {
		r.Names = named(i, name)
	}
	b, err := r.Encode()
	if err != nil {
		return err
	}
	digest := sha256.Sum256(b)
	m := []byte{1}
	m = binary.BigEndian.AppendUint64(m, r.Epoch)
	m = binary.BigEndian.AppendUint64(m, seq)
	m = append(m, digest[:8]...)
	m = binary.BigEndian.AppendUint16(m, r.VTEP.Port())
	m = append(append(m, 4), r.VTEP.Addr().AsSlice()...)
	m = append(append(m, byte(len(r.Name))), r.Name...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if i == len(f.records) {
		f.records, f.metas = append(f.records, nil), append(f.metas, nil)
	}
	f.records[i], f.metas[i] = b, m
	return nil
}

// tell has the i-th host tell a member that its record is another one now.
func (f *feeder) tell(to netip.AddrPort, i int, seq uint64, name string) error {
	if err := f.set(i, seq, name); err != nil {
		return err
	}
	f.mu.Lock()
	meta := f.metas[i]
	f.mu.Unlock()
	return f.send(i, to, kindAlive, struct {
		Incarnation uint32
		Node        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Vsn         []uint8
	}{uint32(seq), string(record(i).ID), f.at(i).Addr().AsSlice(), f.port, meta, versions})
}

// send sends a message from the i-th host.
func (f *feeder) send(i int, to netip.AddrPort, kind byte, v any) error {
	b := bytes.NewBuffer(append(f.label[:len(f.label):len(f.label)], kind))
	if err := codec.NewEncoder(b, new(codec.MsgpackHandle)).Encode(v); err != nil {
		return err
	}
	return f.write(i, to, b.Bytes())
}

func (f *feeder) write(i int, to netip.AddrPort, b []byte) error {
	from := f.at(i).Addr().As4()
	_, _, err := f.udp.WriteMsgUDPAddrPort(b, unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: from}), to)
	return err
}

// packets answers what comes over UDP.
func (f *feeder) packets() {
	b, oob := make([]byte, 64<<10), make([]byte, 128)
	for {
		n, on, _, from, err := f.udp.ReadMsgUDPAddrPort(b, oob)
		if err != nil {
			return
		}
		to, ok := destination(oob[:on])
		if m, labeled := bytes.CutPrefix(b[:n], f.label); ok && labeled {
			f.message(f.host(to), from, m)
		}
	}
}

// destination is where a packet was sent to: ip(7), IP_PKTINFO.
func destination(oob []byte) (netip.Addr, bool) {
	all, err := unix.ParseSocketControlMessage(oob)
	for _, m := range all {
		if err == nil && m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= 12 {
			return netip.AddrFrom4([4]byte(m.Data[8:12])), true
		}
	}
	return netip.Addr{}, false
}

// message answers a message to the i-th host.
func (f *feeder) message(i int, from netip.AddrPort, m []byte) {
	if len(m) < 2 {
		return
	}
	switch kind, body := m[0], m[1:]; kind {
	case kindCompound: // how many, their lengths, and they
		n := int(body[0])
		lengths, rest := body[1:], body[min(len(body), 1+2*n):]
		for j := range n {
			if len(lengths) < 2*n {
				return
			}
			size := int(binary.BigEndian.Uint16(lengths[2*j:]))
			if size > len(rest) {
				return
			}
			f.message(i, from, rest[:size])
			rest = rest[size:]
		}
	case kindPing:
		var ping struct{ SeqNo uint32 }
		if codec.NewDecoderBytes(body, new(codec.MsgpackHandle)).Decode(&ping) == nil {
			_ = f.send(i, from, kindAck, struct { // it may be lost, as packets may
				SeqNo   uint32
				Payload []byte
			}{SeqNo: ping.SeqNo})
		}
	case kindUser:
		f.answer(i, from, body)
	}
}

// answer answers a question for the i-th host's record: version, kind, who asks (16), a nonce (8).
func (f *feeder) answer(i int, from netip.AddrPort, m []byte) {
	if len(m) < 26 || m[0] != 1 || m[1] != 1 {
		return
	}
	f.mu.Lock()
	if i >= len(f.records) {
		f.mu.Unlock()
		return
	}
	r := f.records[i]
	f.mu.Unlock()
	f.asked.Add(1)
	b := append(f.label[:len(f.label):len(f.label)], kindUser, 1, 2)
	b = append(append(append(b, record(i).ID...), m[18:26]...), r...)
	_ = f.write(i, from, b) // it asks again
}

// streams answers what comes over TCP: who exchanges all that it knows gets all, and who asks gets an answer.
func (f *feeder) streams() {
	for {
		c, err := f.tcp.AcceptTCP()
		if err != nil {
			return
		}
		f.running.Go(func() {
			defer c.Close()
			head := make([]byte, len(f.label)+1)
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
			switch head[len(f.label)] {
			case kindPushPull:
				if _, err := c.Write(f.state); err == nil { // the label is that of who has dialed
					_, _ = io.Copy(io.Discard, c)
				}
			case kindUser:
				rest, _ := io.ReadAll(io.LimitReader(c, 1<<10))
				if at := bytes.Index(rest, []byte{1, 1}); at >= 0 { // behind its length
					to := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
					f.answer(f.host(to), netip.AddrPortFrom(from.Addr().Unmap(), gossip.DefaultPort), rest[at:])
				}
			case kindPing:
				var ping struct{ SeqNo uint32 }
				if codec.NewDecoder(c, new(codec.MsgpackHandle)).Decode(&ping) == nil {
					b := bytes.NewBuffer([]byte{kindAck})
					_ = codec.NewEncoder(b, new(codec.MsgpackHandle)).Encode(struct {
						SeqNo   uint32
						Payload []byte
					}{SeqNo: ping.SeqNo})
					_, _ = c.Write(b.Bytes())
				}
			}
		})
	}
}

func (f *feeder) close() {
	f.tcp.Close()
	if f.udp != nil {
		f.udp.Close()
	}
	f.running.Wait()
}
