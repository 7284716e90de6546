package tap

// GSOMax is the gso_max_size in bytes of a container's link with that MTU, on a network with a tunnel, 0: the kernel's default. It is chosen so that one UDP_SEGMENT
// send carries all segments of a super-frame: a second send for the last few would cost as much as the first.
func GSOMax(mtu int) int {
	const payload, segments, ethernet, vxlan = 65507, 64, 14, 8
	const headers = 40 + 12 // IPv4, TCP with timestamps
	fit := min(segments, payload/(mtu+ethernet+vxlan))
	if fit < 2 {
		return 0 // a large MTU: each segment is a send of its own anyway
	}
	const kept = 321 // TCP keeps that much of gso_max_size for headers: Linux's MAX_TCP_HEADER + 1 (sk_setup_caps)
	return fit*(mtu-headers) + kept
}
