package doctor

import (
	"fmt"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/human"
)

// checkReceived reports datagrams that this host dropped before a network got them, for a reason on this host.
func checkReceived(s api.Status, link string) Finding {
	if link == "" {
		link = "the underlay's link"
	}
	f := Finding{Check: "received", State: OK, Seen: "no datagram was lost between the link and the networks"}
	switch {
	case s.KernelDropped["bad_checksum"] > 0:
		f.State = Warn
		f.Seen = fmt.Sprintf("the kernel dropped %s for a wrong checksum (of all UDP of this host, while the tunnel was open)", human.Count(s.KernelDropped["bad_checksum"], "datagram"))
		f.Remedy = fmt.Sprintf("tcpdump -ni %s -vv udp port %d shows whose are wrong; there: ethtool -K LINK tx off. A NAT on the path breaks them too", link, s.VXLANPort)
	case s.KernelDropped["no_memory"] > 0:
		f.State = Warn
		f.Seen = fmt.Sprintf("the kernel dropped %s since all UDP had too little memory", human.Count(s.KernelDropped["no_memory"], "datagram"))
		f.Remedy = "raise the third number of sysctl net.ipv4.udp_mem: the pages (mostly 4 KiB) that UDP of the whole host may take, IPv6 too. Only the host's own network namespace shows it. If the daemon's cgroup bounds its memory, raise that instead"
	case s.RxDropped["overflow"] > 0:
		f.State = Warn
		f.Seen = human.Count(s.RxDropped["overflow"], "datagram") + " came faster than they were read"
		f.Remedy = "more processor time for this host; the buffers line tells whether a burst has room"
	}
	return f
}
