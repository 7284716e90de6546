// Package vlan says which VLANs pass by a port, and makes the port of a station that knows nothing of VLANs a port of one (an access port, IEEE
// 802.1Q): its frames have the VLAN's tag wherever they go, and have lost it again where they come back to it.
package vlan

import (
	"sync"

	"github.com/tapestry-net/tapestry/ether"
	vswitch "github.com/tapestry-net/tapestry/switch"
)

// Tagging is what takes the station's frames, lent for the call, and hands them to in: of an access port with its tag. Frames that
// have a tag already go on as they are: Spec.VLANs decides. Several goroutines may call it at once, if they may call in.
func (s Spec) Tagging(in func([]ether.Frame)) func([]ether.Frame) {
	if s.Access == 0 {
		return in
	}
	return func(frames []ether.Frame) {
		c := pool.Get().(*copies)
		defer c.free()
		for i := range frames {
			f := &frames[i]
			if f.Len() < ether.HeaderLen || f.VLAN() != 0 {
				c.frames = append(c.frames, *f)
				continue
			}
			if !c.fits(f) {
				in(c.frames)
				c.reset()
			}
			var g ether.Frame
			g, c.room = f.AppendTagged(c.room, s.Access)
			c.frames = append(c.frames, g)
		}
		if len(c.frames) > 0 {
			in(c.frames)
		}
	}
}

// Tag is what becomes of one frame of the station.
func (s Spec) Tag(f ether.Frame) ether.Frame {
	if s.Access != 0 && f.Len() >= ether.HeaderLen && f.VLAN() == 0 {
		f, _ = f.AppendTagged(nil, s.Access)
	}
	return f
}

// Untagging is what sends frames to the station's device: of an access port without their tag, and only those of its VLAN.
func (s Spec) Untagging(device vswitch.Sender) vswitch.Sender {
	if s.Access == 0 {
		return device
	}
	return &untagging{s.Access, device}
}

type untagging struct {
	id     uint16
	device vswitch.Sender
}

// Send is vswitch.Sender's.
func (u *untagging) Send(frames []*ether.Frame) (sent, bytes int) {
	c := pool.Get().(*copies)
	defer c.free()
	for _, f := range frames {
		if f.VLAN() != u.id {
			continue
		}
		if !c.fits(f) {
			n, b := c.send(u.device)
			sent, bytes = sent+n, bytes+b
		}
		var g ether.Frame
		g, c.room = f.AppendUntagged(c.room)
		c.frames = append(c.frames, g)
	}
	n, b := c.send(u.device)
	return sent + n, bytes + b
}

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
