package view

import (
	vswitch "github.com/tapestry-net/tapestry/switch"
	"github.com/tapestry-net/tapestry/tunnel"
)

// Count fills in what a port has counted; nil: it is down.
func (v *Port) Count(p *vswitch.Port) {
	var s vswitch.Stats
	if p != nil {
		s, v.Number = p.Stats(), p.Number
	}
	v.RxFrames, v.RxBytes, v.Drops = s.Rx.Rx(), s.RxBytes, s.Rx.Drops()
	v.TxFrames, v.TxBytes, v.Offered, v.Refused = s.Tx, s.TxBytes, s.Offered, s.Refused
}

// Count fills in what the link to a peer and its port have counted.
func (v *Peer) Count(s tunnel.LinkStats, p vswitch.Stats) {
	v.WireTx, v.WireRx = s.WireTx, s.WireRx
	v.GSO, v.GSOWhy = s.GSO.Why == nil, ShortReason(s.GSO.Why)
	v.RemoteSum, v.Fragmented = s.RemoteSum, s.Fragmented
	v.Lost = map[string]uint64{"full": s.Full, "long": s.Long, "failed": s.Failed, "tagged": s.Tagged}
	v.RxFrames, v.RxBytes, v.TxFrames, v.TxBytes = p.Rx.Rx(), p.RxBytes, p.Tx, p.TxBytes
}
