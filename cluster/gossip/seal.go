package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// The envelope of memberlist (v0.7.0: label.go, security.go, net.go). A label, 244 | length (1) | name, stands before each packet and before
// what the host that has dialed sends. Encrypted, a packet goes on with 1 | nonce (12) | AES-GCM, with the name as additional data;
// and what is sent over a connection, one message in each direction, with 10 | length (4) | 1 | nonce (12) | AES-GCM, with its first five
// bytes and the name as additional data.
const (
	labeled   = 244
	encrypted = 10
	gcm       = 1  // without padding. 0 is with: nobody sends that, and memberlist does not check the padding's length
	overhead  = 29 // gcm, nonce, tag; nothing inside is an error, too: memberlist would read its first byte
)

var (
	errCluster = errors.New("it is of another cluster")
	errKey     = errors.New("none of this host's keys opens it")
)

// A seal tells what hosts with the keys of this cluster have sent. Its methods may be called by several goroutines.
type seal struct {
	name  string
	aeads []cipher.AEAD
}

func newSeal(name string, keys [][]byte) *seal {
	s := &seal{name: name}
	for _, key := range keys {
		if block, err := aes.NewCipher(key); err == nil { // Engine.check has seen its length
			if aead, err := cipher.NewGCM(block); err == nil {
				s.aeads = append(s.aeads, aead)
			}
		}
	}
	return s
}

// opens tells whether one of the keys opens gcm | nonce | AES-GCM.
func (s *seal) opens(b, additional []byte) bool {
	if len(b) <= overhead || b[0] != gcm {
		return false
	}
	for _, aead := range s.aeads {
		if _, err := aead.Open(nil, b[1:13], b[13:], additional); err == nil {
			return true
		}
	}
	return false
}

// packet checks a packet: nil, errCluster or errKey.
func (s *seal) packet(b []byte) error {
	if len(b) < 2 || b[0] != labeled || len(b) < 2+int(b[1]) || string(b[2:2+int(b[1])]) != s.name {
		return errCluster
	}
	b = b[2+int(b[1]):]
	if len(s.aeads) == 0 {
		// memberlist's indirect ping begins with a 1, too, and a map of MessagePack follows; here a random nonce would.
		if len(b) > overhead && b[0] == gcm && b[1]&0xf0 != 0x80 {
			return errKey
		}
		return nil
	}
	if !s.opens(b, []byte(s.name)) {
		return errKey
	}
	return nil
}

// stream reads what is sent over a connection in one direction, of most bytes, and returns it as it is for memberlist to read.
func (s *seal) stream(r io.Reader, dialed bool, most int) ([]byte, error) {
	var b []byte
	more := func(n int) error { // grows with what really comes
		for n > 0 {
			from := len(b)
			b = append(b, make([]byte, min(n, 64<<10))...)
			got, err := io.ReadFull(r, b[from:])
			if b = b[:from+got]; err != nil {
				return err
			}
			n -= got
		}
		return nil
	}
	if dialed { // by the other one
		if err := more(1); err != nil {
			return nil, err
		}
		if b[0] != labeled {
			return nil, errCluster
		}
		if err := more(1); err != nil {
			return nil, err
		}
		if err := more(int(b[1])); err != nil {
			return nil, err
		}
		if string(b[2:]) != s.name {
			return nil, errCluster
		}
	}
	head := len(b)
	if err := more(1); err != nil {
		return nil, err
	}
	if (len(s.aeads) > 0) != (b[head] == encrypted) {
		return nil, errKey
	}
	if len(s.aeads) == 0 {
		return b, nil // the rest is read as it comes
	}
	if err := more(4); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b[head+1:])
	if uint64(n) > uint64(most) {
		return nil, fmt.Errorf("a message of %d bytes, more than %d", n, most)
	}
	if err := more(int(n)); err != nil {
		return nil, err
	}
	if !s.opens(b[head+5:], append(b[head:head+5:head+5], s.name...)) {
		return nil, errKey
	}
	return b, nil
}

// A conn is a connection of which memberlist sees only what the seal lets through. One goroutine reads it.
type conn struct {
	net.Conn
	t      *transport
	dialed bool // by the other host
	most   int  // bytes that are read
	read   bool // stream was called
	rest   []byte
	err    error // what follows rest
}

func (c *conn) Read(p []byte) (int, error) {
	if !c.read {
		c.read = true
		c.rest, c.err = c.t.e.seal.stream(c.Conn, c.dialed, c.most)
		switch {
		case c.err != nil:
			c.rest = nil
			c.t.refuse(c.err, c.RemoteAddr())
			c.Close()
		case len(c.t.e.seal.aeads) > 0:
			c.err = io.EOF
		}
		c.most -= len(c.rest)
	}
	if len(c.rest) > 0 {
		n := copy(p, c.rest)
		c.rest = c.rest[n:]
		return n, nil
	}
	if c.err == nil && c.most <= 0 {
		c.err = errors.New("a message that is too long")
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p[:min(len(p), c.most)])
	c.most -= n
	return n, err
}

// Write closes the connection when it fails: memberlist forgets to, if that was the label.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.t.e.streamBytes.Add(uint64(n))
	if err != nil {
		c.Close()
	}
	return n, err
}

func (c *conn) Close() error {
	c.t.closed(c)
	return c.Conn.Close()
}
