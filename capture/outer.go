package capture

import "net/netip"

// A Tunnel is the two ends of a remote host's port, for the outer view.
type Tunnel struct{ Local, Remote netip.AddrPort }
