package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tapestry-net/tapestry/test/testhost"
)

// sweepsNoneOfTheLiving: the links of a running container are never swept, whatever is in tapestry's records. c1 and c2 are on all
// networks, and one of these has veths.
func sweepsNoneOfTheLiving(t *testing.T, h *Host, networks []string) {
	talk := func(t *testing.T) {
		t.Helper()
		for _, network := range networks {
			h.ping(t, "c1", h.address(t, "c2", network))
		}
	}
	talk(t)
	before := h.snapshot(t)

	t.Run("a second daemon of that name does not start", func(t *testing.T) {
		h.quiet(t)
		h.in(t, "mkdir", "-m", "700", "/run/second")
		out, err := h.try("timeout", "-s", "KILL", "60", "tapestry", "run", "--sweep-after", "1s",
			"--state-dir", "/run/second/state", "--plugin-dir", "/run/second", "--api-socket", "/run/second/api.sock")
		if err == nil || !strings.Contains(err.Error(), "--name tapestry runs on this host already") {
			t.Errorf("it said %v%s", err, out)
		}
		talk(t)
		h.audit(t, before)
	})

	t.Run("a second daemon of another name leaves them alone", func(t *testing.T) {
		h.quiet(t)
		h.in(t, "mkdir", "-m", "700", "/run/other")
		other := h.background(t, "", "sh", "-c", `echo $$ >/run/other/pid; exec tapestry run "$@"`, "sh", "--sweep-after", "1s",
			"--name", "other", "--state-dir", "/run/other/state", "--plugin-dir", "/run/other", "--api-socket", "/run/other/api.sock")
		const orphan = "0123456789abffffffffffffffffffffffffffffffffffffffffffffffffffff"
		other.await(t, "msg=ready")
		h.orphan(t, "other", orphan)
		other.await(t, orphan) // swept: so would be all else that it took for its own
		talk(t)
		h.in(t, "sh", "-c", "kill $(cat /run/other/pid)")
		if said, err := other.wait(t); err != nil || strings.Contains(said, "level=WARN") {
			t.Errorf("it ended with %v and said %s", err, said)
		}
		talk(t)
		h.audit(t, before)
	})

	t.Run("a daemon that lost its state leaves them alone, and says so", func(t *testing.T) {
		h.quiet(t, "no record names")
		const orphan = "0123456789abeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
		state := h.stateDir(t)
		h.stopDaemon(t, "TERM")
		h.in(t, "sh", "-ec", "cp -a $1 $1.away; rm -r $1/*", "sh", state) // a plugin's is a mount point
		h.orphan(t, "tapestry", orphan)
		from := h.mark()
		h.startDaemon(t)
		warned := 0
		testhost.Eventually(t, patience, func() error {
			swept := false
			warned = 0
			for _, r := range h.records(t, from) {
				if r.Level == "WARN" && strings.Contains(r.Msg, "no record names") {
					warned++
				}
				swept = swept || r.Endpoint == orphan && strings.Contains(r.Msg, "swept")
			}
			if !swept {
				return fmt.Errorf("a true orphan was not swept")
			}
			return nil
		})
		if warned != 2 { // of the two veths; the TAPs in the containers are out of its sight
			t.Errorf("%d warnings, want 2", warned)
		}
		h.stopDaemon(t, "TERM")
		h.in(t, "sh", "-ec", "rm -r $1/*; cp -a $1.away/. $1; rm -r $1.away", "sh", state)
		h.startDaemon(t)
		talk(t)
		h.audit(t, before)
	})
}

// orphan makes the links of an endpoint as a killed daemon of some name may leave them.
func (h *Host) orphan(t *testing.T, name, id string) {
	t.Helper()
	h.in(t, "sh", "-ec", `
		ip link add tpv$2 type veth peer name tpc$2
		ip link set tpv$2 alias tapestry:$1:$3
		ip link set tpc$2 alias tapestry:$1:$3`, "sh", name, id[:12], id)
}
