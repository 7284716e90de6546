// Package vlan makes the port of a station that knows nothing of VLANs a port of one (an access port, IEEE 802.1Q): its frames have the VLAN's tag wherever
// they go, and have lost it again where they come back to it.
package vlan

import (
	"sync"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// An Access lies between a station's device and what follows on the way to its port of the switch. Ingress and Send may be called by several goroutines.
type Access struct {
	id     uint16
	device vswitch.Sender
	in     func([]ether.Frame)
}

// NewAccess makes one for the VLAN id, 1 to ether.MaxVLAN. Bind must be called before the first Ingress.
func NewAccess(id uint16, device vswitch.Sender) *Access { return &Access{id: id, device: device} }

// Bind sets what takes the frames of the station.
func (a *Access) Bind(in func([]ether.Frame)) { a.in = in }

// copies is where frames are copied to, since their bytes are lent: as many as fit are handed on together.
type copies struct {
	room   []byte
	frames []ether.Frame
	list   []*ether.Frame
}

// roomFor is the room for the copies of a batch: a worker's arena (512 KiB) seldom has more.
const roomFor = 512<<10 + 64*4

var pool = sync.Pool{New: func() any { return &copies{room: make([]byte, 0, roomFor)} }}

// fits tells whether there is room for f with a tag.
func (c *copies) fits(f *ether.Frame) bool {
	return len(c.room)+len(f.WithHeadroom())+4 <= cap(c.room)
}

func (c *copies) reset() { c.room, c.frames = c.room[:0], c.frames[:0] }

func (c *copies) free() {
	c.reset()
	pool.Put(c)
}

// Ingress hands frames of the station on, with the tag. Those that have one of a VLAN already are handed on as they are: the port's VLANs decide.
func (a *Access) Ingress(frames []ether.Frame) {
	c := pool.Get().(*copies)
	defer c.free()
	for i := range frames {
		f := &frames[i]
		if f.Len() < ether.HeaderLen || f.VLAN() != 0 {
			c.frames = append(c.frames, *f)
			continue
		}
		if !c.fits(f) {
			a.in(c.frames)
			c.reset()
		}
		var g ether.Frame
		g, c.room = f.AppendTagged(c.room, a.id)
		c.frames = append(c.frames, g)
	}
	if len(c.frames) > 0 {
		a.in(c.frames)
	}
}

// Send sends frames of the VLAN to the station, without the tag, and no others. It is the port's vswitch.Sender.
func (a *Access) Send(frames []*ether.Frame) (sent, bytes int) {
	c := pool.Get().(*copies)
	defer c.free()
	for _, f := range frames {
		if f.VLAN() != a.id {
			continue
		}
		if !c.fits(f) {
			n, b := c.send(a.device)
			sent, bytes = sent+n, bytes+b
		}
		var g ether.Frame
		g, c.room = f.AppendUntagged(c.room)
		c.frames = append(c.frames, g)
	}
	n, b := c.send(a.device)
	return sent + n, bytes + b
}

// send sends the copies, and makes room.
func (c *copies) send(to vswitch.Sender) (sent, bytes int) {
	if len(c.frames) == 0 {
		return 0, 0
	}
	for i := range c.frames {
		c.list = append(c.list, &c.frames[i])
	}
	sent, bytes = to.Send(c.list)
	clear(c.list)
	c.list = c.list[:0]
	c.reset()
	return sent, bytes
}
