package gossip

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/tapestry-net/tapestry/cluster"
)

// version is that of metadata and messages; it is the first byte of each.
const version = 1

// errNewer is the error of metadata and messages of a newer version.
var errNewer = errors.New("a newer tapestry wrote it")

// A digest is the beginning of a record's SHA-256.
type digest [8]byte

func sum(record []byte) digest {
	s := sha256.Sum256(record)
	return digest(s[:8])
}

// meta is a host's metadata: version, epoch (8 bytes, as all numbers big-endian), number of the latest record (8; 0: none yet), its digest
// (8), the VTEP's port (2), the length of its address (1: 4 or 16) and the address, the length of the host's name (1) and the name.
// That is 300 bytes at most, since cluster.Host.Check allows 255 of a name.
type meta struct {
	host   cluster.Host
	seq    uint64
	digest digest
}

func (m *meta) append(b []byte) []byte {
	b = append(b, version)
	b = binary.BigEndian.AppendUint64(b, m.host.Epoch)
	b = binary.BigEndian.AppendUint64(b, m.seq)
	b = append(b, m.digest[:]...)
	b = binary.BigEndian.AppendUint16(b, m.host.VTEP.Port())
	addr := m.host.VTEP.Addr().AsSlice()
	b = append(append(b, byte(len(addr))), addr...)
	return append(append(b, byte(len(m.host.Name))), m.host.Name...)
}

// parseMeta reads the metadata of a host. errNewer: of a newer version.
func parseMeta(id cluster.HostID, b []byte) (meta, error) {
	m := meta{host: cluster.Host{ID: id}}
	bad := fmt.Errorf("metadata of %d bytes: not tapestry's", len(b))
	if len(b) == 0 || b[0] < version {
		return m, bad
	}
	if b[0] > version {
		return m, fmt.Errorf("version %d, this one reads %d: %w", b[0], version, errNewer)
	}
	if len(b) < 28 {
		return m, bad
	}
	m.host.Epoch, m.seq, m.digest = binary.BigEndian.Uint64(b[1:]), binary.BigEndian.Uint64(b[9:]), digest(b[17:])
	port, n, b := binary.BigEndian.Uint16(b[25:]), int(b[27]), b[28:]
	if len(b) < n+1 {
		return m, bad
	}
	addr, ok := netip.AddrFromSlice(b[:n])
	if b = b[n:]; !ok || len(b) != 1+int(b[0]) {
		return m, bad
	}
	m.host.VTEP, m.host.Name = netip.AddrPortFrom(addr, port), string(b[1:])
	return m, m.host.Check()
}

// newer tells whether m was written after q.
func (m *meta) newer(q *meta) bool {
	if m.host.Epoch != q.host.Epoch {
		return m.host.Epoch > q.host.Epoch
	}
	return m.seq > q.seq
}

// A message goes from one host to another: version, kind, the sender's id (16 bytes), the nonce (8); of an ask the epoch and the
// number of the record that the sender has (8 each), of an answer the record, or nothing if that is the latest one.
type message struct {
	kind       byte
	from       cluster.HostID
	nonce      uint64
	epoch, seq uint64 // of an ask
	record     []byte // of an answer; lent
}

// Kinds of messages.
const (
	ask    = 1
	answer = 2
)

func (m *message) append(b []byte) []byte {
	b = append(append(b, version, m.kind), m.from...)
	b = binary.BigEndian.AppendUint64(b, m.nonce)
	if m.kind == ask {
		b = binary.BigEndian.AppendUint64(b, m.epoch)
		return binary.BigEndian.AppendUint64(b, m.seq)
	}
	return append(b, m.record...)
}

// parseMessage reads a message. errNewer: of a newer version.
func parseMessage(b []byte) (m message, err error) {
	switch {
	case len(b) > 0 && b[0] > version:
		return m, fmt.Errorf("version %d, this one reads %d: %w", b[0], version, errNewer)
	case len(b) < 26 || b[0] != version:
		return m, fmt.Errorf("a message of %d bytes: not tapestry's", len(b))
	}
	m = message{kind: b[1], from: cluster.HostID(b[2:18]), nonce: binary.BigEndian.Uint64(b[18:])}
	b = b[26:]
	switch {
	case m.kind == ask && len(b) == 16:
		m.epoch, m.seq = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
	case m.kind == answer && len(b) <= cluster.MaxRecord:
		m.record = b
	default:
		return m, fmt.Errorf("a message of kind %d with %d bytes: not tapestry's", m.kind, len(b))
	}
	return m, nil
}
