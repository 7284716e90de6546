package docker

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/api"
	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/daemon"
	"github.com/tapestry-net/tapestry/ether"
	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/test/fake"
	"github.com/tapestry-net/tapestry/test/testhost"
)

// A container that has stopped is found by its network namespace: a dump has its frames, under its name.
func TestRecorderStopped(t *testing.T) {
	l := fake.NewCaptureDaemon(t)
	testhost.Must(t, l.Recorder.Resize(1<<21))
	defer l.Recorder.Close()
	for i, id := range []string{"0ther", "crashed"} {
		p := l.Sw.Attach(id, fake.DiscardPort{}, false, 1514)
		p.Pin(ether.MAC{2, 0, 0, 0, 0, byte(7 + i)})
		to := daemon.Observer{Hub: l.Hub}
		to.Plug(fabric.PortView{Number: p.Number, Network: fake.WideID, Kind: "container", Name: id,
			Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/24", 7+i))}}, nil, nil)
		to.SetSandbox(p.Number, "/var/run/docker/netns/of-"+id)
		room := make([]byte, ether.Headroom+60)
		copy(room[ether.Headroom:], []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, byte(7 + i), 0x08, 0x06, byte(i)})
		p.Ingress([]ether.Frame{ether.Lend(room, ether.Offload{})})
		p.Detach()
		to.Unplug(p.Number)
	}
	n := &Names{stopped: map[string]string{"of-crashed": "web"}}
	// Its address belongs to another container now.
	heir := endpointInfo{network: fake.WideID, container: fake.DbContainer, name: "heir", addrs: []netip.Addr{netip.MustParseAddr("10.0.0.8")}}
	n.now.Store(&snapshot{endpoints: map[string]endpointInfo{"heir": heir}, networks: map[string]string{}})
	if err := n.CheckStopped(); exit.Code(err) != exit.NoTarget || !strings.Contains(err.Error(), "container web was started before this daemon") {
		t.Errorf("before the dump: %v", err)
	}
	s, err := l.Client.OpenStream(t.Context(), api.RecorderDumpPath, api.CaptureRequest{Targets: api.Targets{Sandboxes: []string{"of-crashed"}}})
	testhost.Must(t, err)
	s.OnInterface = n.AddPort
	ports, numbers, _, _ := fake.ReadRest(t, s)
	if !bytes.Equal(numbers, []byte{1}) || len(ports) != 1 {
		t.Errorf("frames %v of %q, want that of the crashed one", numbers, ports)
	}
	if n.Container("crashed") != "web" || n.Addr(netip.MustParseAddr("10.0.0.8")) != "web" || n.Container("0ther") != "" {
		t.Errorf("names are %+v", n.now.Load())
	}
	if err := n.CheckStopped(); err != nil {
		t.Error(err)
	}
	testhost.Must(t, s.Close())
	if what := `targets=sandbox:of-crashed`; !strings.Contains(l.Log.String(), what) {
		t.Errorf("no %s in the log:\n%s", what, l.Log.String())
	}
}
