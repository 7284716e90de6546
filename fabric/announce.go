package fabric

import "github.com/tapestry-net/tapestry/ether"

// announcements are frames that tell the whole network which MAC has the endpoint's addresses. So other hosts' switches learn the
// port, and neighbours replace stale entries. Docker before 28 does not send them itself.
func announcements(e Endpoint) (frames []ether.Frame) {
	for _, p := range e.Addrs {
		room := append(make([]byte, ether.Headroom), ether.Announcement(e.MAC, p.Addr())...)
		frames = append(frames, ether.Lend(room, ether.Offload{}))
	}
	return frames
}
