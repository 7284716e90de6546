package ether

// Bounds of what users set, for all packages that check it.
const (
	MinMTU   = 68                // of IPv4, in bytes of IP packet: RFC 791 §3.2
	MinMTUv6 = 1280              // of IPv6: RFC 8200 §5
	MaxMTU   = 65535 - HeaderLen // what a TAP takes: an Ethernet frame of at most 65535 bytes
	MaxVNI   = 1<<24 - 1         // RFC 7348 §5; the smallest is 1
	MaxIPLen = 65535             // bytes of an IP packet: RFC 791 §3.1
)
