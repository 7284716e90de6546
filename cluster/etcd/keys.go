package etcd

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/cluster"
)

// A layout is where the keys of one cluster are. The package comment lists them.
type layout struct{ base string }

func newLayout(prefix, name string) layout {
	return layout{strings.TrimRight(prefix, "/") + "/" + name + "/"}
}

func (l layout) hosts() string                             { return l.base + "hosts/" }
func (l layout) record(id cluster.HostID) string           { return l.base + "hosts/" + string(id) + "/record" }
func (l layout) alive(id cluster.HostID) string            { return l.base + "hosts/" + string(id) + "/alive" }
func (l layout) network(key string) string                 { return l.base + "networks/" + key }
func (l layout) vni(n uint32) string                       { return l.base + "vnis/" + strconv.FormatUint(uint64(n), 10) }
func (l layout) users(key string) string                   { return l.base + "users/" + key + "/" }
func (l layout) allUsers() string                          { return l.base + "users/" }
func (l layout) allBlocks() string                         { return l.base + "blocks/" }
func (l layout) blocks(key string) string                  { return l.base + "blocks/" + key + "/" }
func (l layout) user(key string, id cluster.HostID) string { return l.users(key) + string(id) }

// block is the key of a block.
func (l layout) block(key string, b netip.Prefix) string {
	return l.from(key, b.Addr()) + "/" + strconv.Itoa(b.Bits())
}

// from is where the keys of the blocks that begin at an address begin.
func (l layout) from(key string, a netip.Addr) string {
	family := "4/"
	if a.Is6() {
		family = "6/"
	}
	return l.blocks(key) + family + hex.EncodeToString(a.AsSlice())
}

// within is the range of the keys of all blocks that begin inside of b: b, those in it, and those around it with its address.
func (l layout) within(key string, b netip.Prefix) (from, to string) {
	return l.from(key, b.Addr()), l.from(key, cluster.LastAddr(b)) + "0" // the byte after '/'
}

// around are the keys of the other blocks that b is in.
func (l layout) around(key string, b netip.Prefix) (all []string) {
	for bits := b.Bits() - 1; bits >= shortest(b.Addr()); bits-- {
		if p, _ := b.Addr().Prefix(bits); p.Addr() != b.Addr() {
			all = append(all, l.block(key, p))
		}
	}
	return all
}

// shortest is the least length of a block: a transaction has 128 comparisons at most.
func shortest(a netip.Addr) int {
	if a.Is6() {
		return 16
	}
	return 1
}

// parseBlock reads the key of a block: the network's key and the block.
func (l layout) parseBlock(k string) (string, netip.Prefix, error) {
	rest, ok := strings.CutPrefix(k, l.allBlocks())
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 4 || cluster.CheckKey(parts[0]) != nil {
		return "", netip.Prefix{}, fmt.Errorf("%q is no block's key", k)
	}
	b, err := hex.DecodeString(parts[2])
	a, ok := netip.AddrFromSlice(b)
	bits, err2 := strconv.Atoi(parts[3])
	p := netip.PrefixFrom(a, bits)
	if err != nil || err2 != nil || !ok || !p.IsValid() || l.block(parts[0], p.Masked()) != k {
		return "", netip.Prefix{}, fmt.Errorf("%q is no block's key", k)
	}
	return parts[0], p, nil
}

// parseHost reads a key below hosts/: whose it is, and whether it is the record or alive.
func (l layout) parseHost(k string) (id cluster.HostID, what string, err error) {
	rest, ok := strings.CutPrefix(k, l.hosts())
	of, what, both := strings.Cut(rest, "/")
	if !ok || !both || checkID(of) != nil || what != "record" && what != "alive" {
		return "", "", fmt.Errorf("%q is no host's key", k)
	}
	return cluster.HostID(of), what, nil
}

// checkID refuses what is no host's id.
func checkID(id string) error {
	ok := len(id) == 16
	for i := range len(id) {
		ok = ok && ('0' <= id[i] && id[i] <= '9' || 'a' <= id[i] && id[i] <= 'f')
	}
	if !ok {
		return fmt.Errorf("%q is no host's id: want 16 hex digits", id)
	}
	return nil
}

// format is the version of the values below.
const format = 1

// alive is the value of hosts/ID/alive.
type alive struct {
	Version int    `json:"version"`
	Epoch   uint64 `json:"epoch"`
	Run     string `json:"run"` // random, of one run of the daemon
}

func aliveValue(epoch uint64, run string) string {
	b, _ := json.Marshal(alive{format, epoch, run})
	return string(b)
}

// parseAlive reads hosts/ID/alive. What a newer version adds is ignored: the epoch counts.
func parseAlive(b []byte) (alive, error) {
	var a alive
	if err := json.Unmarshal(b, &a); err != nil {
		return alive{}, fmt.Errorf("not an epoch: %w", err)
	}
	if a.Version < 1 {
		return alive{}, errors.New("not an epoch: no version")
	}
	return a, nil
}

// agreed is the value of networks/KEY.
type agreed struct {
	Version int          `json:"version"`
	Spec    cluster.Spec `json:"spec"`
	By      cluster.Host `json:"by"`
}

func agreedValue(s cluster.Spec, by cluster.Host) string {
	b, _ := json.Marshal(agreed{format, s, by})
	return string(b)
}

// parseAgreed reads networks/KEY. cluster.ErrVersion if a newer version wrote it.
func parseAgreed(key string, b []byte) (agreed, error) {
	var a agreed
	err := json.Unmarshal(b, &a)
	switch {
	case err != nil:
	case a.Version > format:
		err = cluster.ErrVersion
	case a.Version < 1:
		err = errors.New("no version")
	case a.Spec.Key != key:
		err = fmt.Errorf("it is of network %q", a.Spec.Key)
	case a.Spec.VNI == 0:
		err = errors.New("no VNI")
	default:
		if err = a.Spec.Check(); err == nil {
			err = a.By.Check()
		}
	}
	if err != nil {
		return agreed{}, fmt.Errorf("what etcd has of network %s cannot be used: %w", key, err)
	}
	return a, nil
}
