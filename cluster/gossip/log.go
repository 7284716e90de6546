package gossip

import (
	"bytes"
	"log"
	"sync"
	"sync/atomic"
)

type logger = log.Logger

func newLogger(w lines) *logger { return log.New(w, "", 0) }

// lines are memberlist's log.
type lines struct{ e *Engine }

func (l lines) Write(b []byte) (int, error) {
	line := bytes.TrimSpace(b)
	if bytes.Contains(line, []byte("UDP probes failed")) {
		l.e.tell("udp", "a host answers over TCP, and not over UDP: let UDP through to the gossip's port, too", "memberlist", string(line))
	}
	l.e.log.Debug(string(line))
	return len(b), nil
}

// Stats are counts of what was refused since Start.
type Stats struct {
	OtherCluster uint64 // packets and connections with another cluster's name, or none
	WrongKey     uint64 // those that none of the keys opens: another key, not encrypted, or encrypted and this host has no key
	Crowded      uint64 // connections above what one host, or all strangers, may have
	Metadata     uint64 // of hosts that are not tapestry's
	Messages     uint64 // that cannot be read
	Unasked      uint64 // answers to nothing that was asked, or a second time
	Records      uint64 // that cannot be read, or are not what the host has told of them
	Forged       uint64 // records with the id of another host than the one that was asked
	Newer        uint64 // metadata, messages and records of newer versions
	SameID       uint64 // hosts with an id that another one has
}

// Traffic is what this host has sent since Start, as UDP and TCP payload.
type Traffic struct {
	Packets     uint64 // over UDP
	PacketBytes uint64
	StreamBytes uint64 // over TCP
}

type counters struct {
	packetsSent, packetBytes, streamBytes atomic.Uint64

	otherCluster, wrongKey, crowded, refusedMeta, messages, unasked, records, forged, newer, sameID atomic.Uint64

	once   sync.Mutex // guards what follows
	toldOf map[string]bool
}

// Stats returns the counts of what was refused.
func (e *Engine) Stats() Stats {
	return Stats{
		OtherCluster: e.otherCluster.Load(), WrongKey: e.wrongKey.Load(), Crowded: e.crowded.Load(), Metadata: e.refusedMeta.Load(),
		Messages: e.messages.Load(), Unasked: e.unasked.Load(), Records: e.records.Load(), Forged: e.forged.Load(),
		Newer: e.newer.Load(), SameID: e.sameID.Load(),
	}
}

// Traffic returns what this host has sent.
func (e *Engine) Traffic() Traffic {
	return Traffic{Packets: e.packetsSent.Load(), PacketBytes: e.packetBytes.Load(), StreamBytes: e.streamBytes.Load()}
}

// maxTold bounds what is remembered as told: after that, things are only counted.
const maxTold = 1000

// tell logs a warning, once for each key.
func (e *Engine) tell(key, text string, args ...any) {
	e.once.Lock()
	was := e.toldOf[key] || len(e.toldOf) >= maxTold
	if !was {
		if e.toldOf == nil {
			e.toldOf = make(map[string]bool)
		}
		e.toldOf[key] = true
	}
	e.once.Unlock()
	if !was {
		e.log.Warn("cluster: "+text, args...)
	}
}
