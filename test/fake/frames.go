package fake

// UDPFrame is a frame of length bytes, at least 42, with a UDP datagram from web to db.
func UDPFrame(length int) []byte {
	b := make([]byte, length)
	copy(b, []byte{2, 0x42, 10, 80, 1, 3, 2, 0x42, 10, 80, 1, 2, 8, 0,
		0x45, 0, byte((length - 14) >> 8), byte(length - 14), 0, 1, 0, 0, 64, 17, 0, 0, 10, 80, 1, 2, 10, 80, 1, 3,
		0x9d, 0x14, 0x1f, 0x90, byte((length - 34) >> 8), byte(length - 34), 0, 0})
	return b
}

// TCPFrame is a frame of a TCP connection from web to port 80 of 10.80.2.9, in either direction, with these TCP flags and no payload.
func TCPFrame(fromWeb bool, flags byte) []byte {
	b := make([]byte, 54)
	copy(b, []byte{2, 0x42, 10, 80, 2, 9, 2, 0x42, 10, 80, 1, 2, 8, 0, 0x45})
	b[23] = 6
	copy(b[26:], []byte{10, 80, 1, 2, 10, 80, 2, 9, 0x9c, 0x40, 0, 80})
	if !fromWeb {
		copy(b, []byte{2, 0x42, 10, 80, 1, 2, 2, 0x42, 10, 80, 2, 9})
		copy(b[26:], []byte{10, 80, 2, 9, 10, 80, 1, 2, 0, 80, 0x9c, 0x40})
	}
	b[46], b[47] = 5<<4, flags
	return b
}
