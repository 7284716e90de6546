package capture

import (
	"bytes"
	"encoding/json"
	"io"
	"net/netip"
	"time"

	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// NDJSON is a Writer of lines of JSON, for programs that read no pcapng: {"port":…} before a port's first frame,
// {"frame":…}, and {"books":…} with the counters at the end. Frames are not dissected.
type NDJSON struct {
	w     io.Writer
	buf   bytes.Buffer
	enc   *json.Encoder
	ports int
	size  int64
}

// NewNDJSON makes a writer to w.
func NewNDJSON(w io.Writer) *NDJSON {
	n := &NDJSON{w: w}
	n.enc = json.NewEncoder(&n.buf)
	return n
}

type portLine struct {
	Index   int            `json:"index"`
	Name    string         `json:"name"`
	Kind    string         `json:"kind"`
	Network string         `json:"network"`
	VNI     uint32         `json:"vni"`
	MAC     string         `json:"mac,omitempty"`
	Addrs   []netip.Prefix `json:"addresses"`
	Outer   bool           `json:"outer,omitempty"`
}

type frameLine struct {
	Time    time.Time `json:"time"`
	ID      uint64    `json:"id"`
	Port    int       `json:"port"`
	Out     *int      `json:"out,omitempty"`
	Inbound bool      `json:"inbound"`
	Verdict string    `json:"verdict,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Fault   string    `json:"fault,omitempty"`
	Segment uint16    `json:"segment,omitempty"`
	Lost    uint64    `json:"lost,omitempty"`
	Len     int       `json:"len"`
	Data    []byte    `json:"data"`
}

type countsLine struct {
	Port      int    `json:"port"`
	Delivered uint64 `json:"delivered"`
	Dropped   uint64 `json:"dropped"`
}

// AddInterface writes a port's line.
func (n *NDJSON) AddInterface(i *pcapng.Interface) (index int, err error) {
	p, _ := ReadPort(i)
	line := portLine{Index: n.ports, Name: p.Name, Kind: "container", Network: p.Network, VNI: p.VNI, Addrs: p.Addrs,
		Outer: p.Outer}
	if line.Addrs == nil {
		line.Addrs = []netip.Prefix{}
	}
	if p.Remote {
		line.Kind = "remote"
	} else {
		line.MAC = p.MAC.String()
	}
	if p.HostPort {
		line.Kind = "host"
	}
	n.ports++
	return line.Index, n.enc.Encode(map[string]any{"port": line})
}

// WritePacket writes a frame's line; what is not in the packet's Detail is left out.
func (n *NDJSON) WritePacket(p *pcapng.Packet) error {
	line := frameLine{Time: time.Unix(0, p.Time).UTC(), ID: p.ID, Port: p.Interface,
		Inbound: p.Flags&pcapng.Direction == pcapng.Inbound, Lost: p.Drops, Len: p.Len, Data: p.Data}
	if d, ok := ReadDetail(p); ok {
		line.Verdict, line.Fault, line.Segment = d.Verdict.String(), d.Fault.String(), d.Segment
		if d.Verdict.Drop() {
			line.Verdict, line.Reason = "drop", d.Verdict.String()
		}
		if d.Out >= 0 {
			line.Out = &d.Out
		}
	}
	return n.enc.Encode(map[string]any{"frame": line})
}

// Statistics writes the line of a port's counters.
func (n *NDJSON) Statistics(s *pcapng.Stats) error {
	return n.enc.Encode(map[string]any{"books": countsLine{s.Interface, s.Delivered, s.Dropped}})
}

// Flush writes the lines since the last Flush.
func (n *NDJSON) Flush() error {
	n.size += int64(n.buf.Len())
	_, err := n.w.Write(n.buf.Bytes())
	n.buf.Reset()
	return err
}

// Size is in bytes, with what Flush has not written yet.
func (n *NDJSON) Size() int64 { return n.size + int64(n.buf.Len()) }
