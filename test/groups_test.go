package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

const groupPort = 5007

// everybody are destinations that belong to no subnet: a group, and limited broadcast.
var everybody = []net.IP{net.IPv4(239, 1, 1, 1), net.IPv4bcast}

// TestGroups: a program that names no interface sends multicast and limited broadcast to its tapestry network, and joins groups there.
func TestGroups(t *testing.T) {
	h := newNode(t, "groups")
	h.network(t, "on", "--subnet", "10.77.0.0/24")
	h.network(t, "off", "--subnet", "10.78.0.0/24", "-o", "tapestry.external=off")
	h.network(t, "third", "--subnet", "10.79.0.0/24", "-o", "tapestry.attach=tap")
	h.docker(t, "network", "create", "--subnet", "10.80.0.0/24", "bridged") // Docker's own
	for _, network := range []string{"on", "off"} {
		h.run(t, network+"1", network)
		h.run(t, network+"2", network)
	}

	for _, network := range []string{"on", "off"} {
		t.Run("external="+network, func(t *testing.T) {
			h.quiet(t)
			h.receivesBroadcast(t, network+"1", network+"2", network)
			h.receivesBroadcast(t, network+"2", network+"1", network)
		})
	}

	// dockerd fails at a route that a container already has: only one of its networks adds it.
	t.Run("several networks", func(t *testing.T) {
		h.quiet(t)
		c := "several"
		h.run(t, c, "on")
		h.oneRoute(t, c)
		h.receivesBroadcast(t, c, "on1", "on")
		for _, network := range []string{"off", "third", "bridged"} {
			h.docker(t, "network", "connect", network, c)
			h.oneRoute(t, c)
		}
		h.receivesBroadcast(t, c, "on1", "on") // still the first
		for range 3 {
			h.docker(t, "restart", "-t", "0", c)
			h.oneRoute(t, c)
		}
		h.stop(t, c)
		h.docker(t, "network", "disconnect", "third", c)
		h.docker(t, "network", "connect", "third", c)
		h.docker(t, "start", c)
		h.oneRoute(t, c)
		for range 2 {
			for _, network := range []string{"on", "off", "third"} {
				h.docker(t, "network", "disconnect", network, c)
			}
			for _, network := range []string{"off", "third", "on"} {
				h.docker(t, "network", "connect", network, c)
				h.oneRoute(t, c)
			}
		}
		h.receivesBroadcast(t, c, "off1", "off")
	})

	t.Run("another daemon gave them", func(t *testing.T) {
		h.quiet(t)
		h.run(t, "older", "off")
		h.stopDaemon(t, "KILL")
		h.startDaemon(t)
		h.docker(t, "network", "connect", "on", "older")
		h.oneRoute(t, "older")
		h.receivesBroadcast(t, "older", "off1", "off")
		h.docker(t, "restart", "-t", "0", "older")
		h.oneRoute(t, "older")
	})

	t.Run("dockerd restarts with live-restore", func(t *testing.T) {
		h.quiet(t, "failed revoking external connectivity .*not found") // 29 has forgotten its endpoints
		h.stopDockerd(t, "TERM")
		h.startDockerd(t, "--live-restore")
		h.docker(t, "start", "on1", "on2", "off1", "off2")
		h.run(t, "lives", "on")
		h.docker(t, "network", "connect", "third", "lives")
		h.stopDockerd(t, "TERM")
		h.startDockerd(t, "--live-restore")
		h.oneRoute(t, "lives")
		h.docker(t, "network", "disconnect", "third", "lives")
		h.docker(t, "network", "connect", "third", "lives")
		h.oneRoute(t, "lives")
		h.receivesBroadcast(t, "on1", "on2", "on")
		h.receivesBroadcast(t, "off2", "off1", "off")
	})
}

// oneRoute checks that a container has exactly one route to each of everybody.
func (h *Host) oneRoute(t *testing.T, container string) {
	t.Helper()
	for _, route := range []string{"224.0.0.0/4", "255.255.255.255"} {
		got := h.in(t, "nsenter", "-n", "-t", h.init(t, container), "ip", "-4", "route", "show", "exact", route)
		if len(strings.Split(got, "\n")) != 1 || !strings.Contains(got, " scope link") {
			t.Errorf("%s has routes to %s: %q, want one", container, route, got)
		}
	}
}

// receivesBroadcast checks that container to receives what from sends to everybody on their network.
func (h *Host) receivesBroadcast(t *testing.T, to, from, network string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ear := h.background(t, to, self, groupsHelper, "hear")
	ear.await(t, "group joined: ")
	if said := ear.said.String(); !strings.Contains(said, "joined: yes") {
		t.Errorf("%s joins a group: %s", to, said)
		return
	}
	if said, err := h.try("nsenter", "-n", "-t", h.init(t, from), self, groupsHelper, "send"); err != nil {
		t.Errorf("%s sends: %s, %v", from, said, err)
		ear.cmd.Process.Kill()
		return
	}
	for _, dst := range everybody {
		ear.await(t, fmt.Sprintf("%s from %s\n", dst, h.address(t, from, network)))
	}
	if said, err := ear.wait(t); err != nil {
		t.Errorf("%s hears: %s, %v", to, said, err)
	}
}

// groupsHelper as first argument makes the test's binary a program that runs in a container's network namespace.
const groupsHelper = "groups-helper"

// groups joins a group and prints what it receives, until it has received from each destination; or it sends to each. It names no interface.
func groups(what string) error {
	if what == "send" {
		var errs []error
		for _, dst := range everybody {
			c, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: dst, Port: groupPort})
			if err == nil {
				_, err = c.Write([]byte(dst.String()))
				c.Close()
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	c, err := net.ListenMulticastUDP("udp4", nil, &net.UDPAddr{IP: everybody[0], Port: groupPort}) // nil: INADDR_ANY
	if err != nil {
		fmt.Println("group joined: no,", err)
		return err
	}
	defer c.Close()
	fmt.Println("group joined: yes")
	heard, b := map[string]bool{}, make([]byte, 100)
	for len(heard) < len(everybody) {
		n, from, err := c.ReadFromUDP(b)
		if err != nil {
			return err
		}
		heard[string(b[:n])] = true
		fmt.Printf("%s from %s\n", b[:n], from.IP)
	}
	return nil
}
