package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// portState is a port as the commands see it.
type portState struct {
	port
	Container, State, Why string
}

func (h *Host) portState(t *testing.T, container string) portState {
	t.Helper()
	for _, p := range objects[portState](t, h, "ports") {
		if p.Container == container {
			return p
		}
	}
	t.Fatalf("no port of %s", container)
	return portState{}
}

// becomes waits for a container's port to be up or down.
func (h *Host) becomes(t *testing.T, container, state string) {
	t.Helper()
	testhost.Eventually(t, patience, func() error {
		if p := h.portState(t, container); p.State != state || (state == "down") != (p.Why == "the link is down in the container") {
			return fmt.Errorf("the port of %s is %s, %q", container, p.State, p.Why)
		}
		return nil
	})
}

// TestLinkDown: frames to a container whose link is down are counted and reported as such; when the link is up again, the first
// frame arrives.
func TestLinkDown(t *testing.T) {
	h := newNode(t, "linkdown")
	for _, attach := range []string{"veth", "tap"} {
		t.Run(attach, func(t *testing.T) {
			h.quiet(t)
			subnet := map[string]string{"veth": "10.77.0.", "tap": "10.78.0."}[attach]
			h.network(t, attach, "--subnet", subnet+"0/24", "-o", "tapestry.attach="+attach)
			web, db := "web-"+attach, "db-"+attach
			h.run(t, web, attach)
			h.run(t, db, attach, "--ip", subnet+"50", "--cap-add", "NET_ADMIN")
			link := func(state string) { h.exec(t, db, "ip", "link", "set", "eth0", state) }
			loses := func(frames int) (lost uint64) {
				before := h.portState(t, web).Drops["down"]
				if said, err := h.tryExec(web, "ping", "-n", "-c", fmt.Sprint(frames), "-i0.2", "-W1", subnet+"50"); err == nil {
					t.Errorf("a container whose link is down answers: %s", said)
				}
				return h.portState(t, web).Drops["down"] - before
			}
			h.ping(t, web, subnet+"50")
			for _, p := range []portState{h.portState(t, web), h.portState(t, db)} {
				if p.State != "up" || p.Drops["down"] != 0 {
					t.Errorf("a container that was started as usual: %+v", p)
				}
			}

			link("down")
			h.becomes(t, db, "down")
			before := h.portState(t, db)
			if lost := loses(3); lost < 3 {
				t.Errorf("%d frames are counted as dropped, want 3 and more", lost)
			}
			if p := h.portState(t, db); p.TxFrames != before.TxFrames {
				t.Errorf("%d frames count as delivered", p.TxFrames-before.TxFrames)
			}
			h.traceSays(t, 1, web+" "+db, "link         the link that it would leave by is down", "egress       "+db+": not there: the link is down in the container",
				"verdict      dropped (down)")
			h.traceSays(t, 0, db+" "+web, "nothing comes from "+db+" now: the link is down in the container")
			if said := h.tapestry(t, "status"); !strings.Contains(said, "ports      1 down") {
				t.Errorf("status: %s", said)
			}
			if attach == "veth" { // doctor takes some seconds
				_, lines := h.doctor(t)
				if err := finds(lines, "ports", "warn", db+" on veth gets nothing: the link is down in the container", "docker exec --privileged "+db+" ip link set eth0 up"); err != nil {
					t.Error(err)
				}
			}
			if said := h.tapestry(t, "recorder", "dump", web, "--", "icmp"); !strings.Contains(said, "DROP down: the link that it would leave by is down") {
				t.Errorf("the recorder has: %s", said)
			}

			h.stopDaemon(t, "TERM")
			h.startDaemon(t)
			h.becomes(t, db, "down")
			if lost := loses(1); lost == 0 {
				t.Error("after a restart of the daemon nothing is counted as dropped")
			}

			link("up")
			drops := h.portState(t, web).Drops["down"]
			h.ping(t, web, subnet+"50")
			if p := h.portState(t, web); p.Drops["down"] != drops {
				t.Errorf("with the link up again, %d frames were dropped", p.Drops["down"]-drops)
			}
			h.becomes(t, db, "up")
			h.ping(t, db, h.address(t, web, attach))
			h.traceSays(t, 0, web+" "+db, "verdict      forwarded to "+db)
		})
	}
}
