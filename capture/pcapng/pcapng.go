// Package pcapng writes and reads capture files: pcapng (draft-ietf-opsawg-pcapng) and classic pcap
// (draft-ietf-opsawg-pcap).
//
// It writes what Wireshark, tshark, tcpdump and capinfos read without a plugin: little-endian, one section, one snap length in
// a file (libpcap refuses a file whose interfaces differ), nanoseconds, and no Custom Blocks, which Wireshark shows as packets.
// It also reads what other tools write: either byte order, several sections, obsolete blocks, any link type, any time
// resolution. Contradictions are read as the more tolerant of tshark and tcpdump reads them: no packet is lost because of its
// options. Whatever was read can be written, and what was written here is the same after it was read and written again.
package pcapng

import (
	"net/netip"

	"github.com/tapestry-net/tapestry/ether"
)

const (
	// MaxSnapLen is the longest snap length in bytes: tcpdump and Wireshark take no longer packet of an Ethernet.
	MaxSnapLen = 262144

	// maxBlock is the longest block in bytes that is read; libpcap and Wireshark have the same bound.
	maxBlock = 16 << 20
)

// Link types (LINKTYPE_ numbers) that this program can look into. The header of Null is taken as little-endian; Loop has the
// same header in network byte order.
const (
	Null      = 0
	Ethernet  = 1
	Raw       = 101
	RawBSD    = 12 // the number of DLT_RAW, which some tools wrote into files
	RawOpen   = 14 // the same on OpenBSD
	Loop      = 108
	LinuxSLL  = 113 // tcpdump -i any, until 2021
	IPv4      = 228
	IPv6      = 229
	LinuxSLL2 = 276 // tcpdump -i any
)

// Bits of Packet.Flags (draft-ietf-opsawg-pcapng §4.3.1). Direction masks Inbound and Outbound, Reception masks
// Unicast to Promiscuous.
const (
	Inbound          uint32 = 1
	Outbound         uint32 = 2
	Direction        uint32 = 3
	Unicast          uint32 = 1 << 2
	Multicast        uint32 = 2 << 2
	Broadcast        uint32 = 3 << 2
	Promiscuous      uint32 = 4 << 2
	Reception        uint32 = 7 << 2
	ChecksumNotReady uint32 = 1 << 9  // the checksum is left to an offload
	ChecksumValid    uint32 = 1 << 10 // the checksum has been checked already
	Segmented        uint32 = 1 << 11 // stands for several frames on the wire (TSO, GRO)
)

// Section is a Section Header Block: where and by what was captured. An empty text is not written.
//
// In all texts, NUL and bytes that are not UTF-8 become U+FFFD; a text of more than 65535 bytes is cut between two runes.
// Several comments in one block are read as one, with line feeds between.
type Section struct {
	Hardware    string
	OS          string
	Application string
	Comment     string
}

// Interface is an Interface Description Block. A classic pcap file has one, without any text.
type Interface struct {
	Name        string
	Description string
	Filter      string // as in pcap-filter(7)
	Hardware    string
	Comment     string
	MAC         ether.MAC      // zero: not told
	Addrs       []netip.Prefix // with the host's bits
	SnapLen     int            // bytes; 0 or more than MaxSnapLen: no limit, written as MaxSnapLen; equal for all interfaces of a file
	LinkType    int            // LINKTYPE_ number
}

// Packet is a packet block, or a record of classic pcap.
type Packet struct {
	// Interface is an index that Writer.AddInterface gave. Read, it counts the Interfaces that Reader.Next returned,
	// from 0 and on through all sections of a file.
	Interface int

	// Time is nanoseconds since 1970, UTC; a negative one is written as 0. What does not fit into an int64 is read as the
	// nearest value that does. A Simple Packet Block has no time: 0.
	Time int64

	Data  []byte // cut to the snap length when it is written
	Len   int    // bytes on the wire; less than len(Data), as 0: len(Data)
	Flags uint32 // epb_flags; 0: not told
	ID    uint64 // epb_packetid: equal in all packets that are the same frame; 0: not told
	Drops uint64 // epb_dropcount: lost since the previous packet of this interface; 0: not told
	Queue int    // epb_queue; negative: not told

	// Verdict is epb_verdict: a type (0 hardware, 1 eBPF TC, 2 XDP) and the verdict's bytes. Empty: not told.
	// Wireshark 4.0 and its tools show it, but a file that they save from one with verdicts is corrupt.
	Verdict []byte

	Comment string
}

// Name is what an address is called.
type Name struct {
	Addr netip.Addr
	Name string
}

// Names is a Name Resolution Block, with its IPv4 and IPv6 addresses. An address may have several names, in one record or in
// several: all are here, and Wireshark shows the last one.
type Names []Name

// Stats is an Interface Statistics Block: an interface's counters from Start to End. A later one replaces an earlier one.
type Stats struct {
	Interface  int   // as in Packet
	Start, End int64 // nanoseconds since 1970, UTC; 0: not told

	Received  uint64 // isb_ifrecv: packets on the interface
	Accepted  uint64 // isb_filteraccept: of these, those that the filter accepted
	Dropped   uint64 // isb_ifdrop and isb_osdrop, both with the full number: of the accepted, those lost since a buffer was full
	Delivered uint64 // isb_usrdeliv: of the accepted, those that were written
	Comment   string
}

// Block is what Reader.Next returns: *Section, *Interface, *Packet, Names or *Stats.
type Block interface{ block() }

func (*Section) block()   {}
func (*Interface) block() {}
func (*Packet) block()    {}
func (Names) block()      {}
func (*Stats) block()     {}

// Block types (draft-ietf-opsawg-pcapng §4 and appendix A).
const (
	blockSection   = 0x0a0d0d0a // the same in either byte order
	blockInterface = 1
	blockObsolete  = 2 // Packet Block
	blockSimple    = 3
	blockNames     = 4
	blockStats     = 5
	blockPacket    = 6
)

// byteOrder is the Byte-Order Magic of a section.
const byteOrder = 0x1a2b3c4d

// Option codes of any block, then by block.
const (
	optEnd     = 0
	optComment = 1

	shbHardware    = 2
	shbOS          = 3
	shbApplication = 4

	ifName        = 2
	ifDescription = 3
	ifIPv4        = 4
	ifIPv6        = 5
	ifMAC         = 6
	ifResolution  = 9
	ifFilter      = 11
	ifOffset      = 14
	ifHardware    = 15

	epbFlags   = 2
	epbDrops   = 4
	epbID      = 5
	epbQueue   = 6
	epbVerdict = 7

	isbStart     = 2
	isbEnd       = 3
	isbReceived  = 4
	isbIfDrop    = 5
	isbAccepted  = 6
	isbOSDrop    = 7
	isbDelivered = 8
)

// Records of a Name Resolution Block.
const (
	recordEnd  = 0
	recordIPv4 = 1
	recordIPv6 = 2
)
