package main

import (
	"slices"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	all := []networkReply{{ID: wideID, VNI: 80}, {ID: localID}, {ID: otherID, VNI: 90}, {ID: "5555" + wideID[4:], VNI: 7}}
	named := &docker{answered: true, networks: []dockerNetwork{
		{ID: wideID, Name: "wide", Driver: "tapestry"},
		{ID: localID, Name: "90", Driver: "tapestry"}, // a name comes before a VNI
		{ID: otherID, Name: wideID, Driver: "tapestry"},
		{ID: "eeee" + wideID[4:], Name: "7", Driver: "bridge"}, // not ours, so the VNI is meant
		{ID: "ffff" + wideID[4:], Name: "lan", Driver: "macvlan"},
	}}
	twins := &docker{answered: true, networks: []dockerNetwork{{ID: wideID, Name: "twin"}, {ID: localID, Name: "twin"}}}
	for _, c := range []struct {
		name, arg string
		docker    *docker
		want      string // id, or part of the error
		code      int
	}{
		{"by name", "wide", named, wideID, exitFine},
		{"name before id", wideID, named, otherID, exitFine},
		{"name before VNI", "90", named, localID, exitFine},
		{"VNI before id prefix", "80", named, wideID, exitFine},
		{"VNI before another driver's name", "7", named, "5555" + wideID[4:], exitFine},
		{"id prefix", "80c", named, otherID, exitFine},
		{"whole id", wideID, &docker{}, wideID, exitFine},
		{"VNI without Docker", "90", &docker{}, otherID, exitFine},
		{"ambiguous prefix", "aaa", named, wideID + " (wide) or " + localID + " (90)", exitUsage},
		{"ambiguous name", "twin", twins, wideID + " (twin) or " + localID + " (twin)", exitUsage},
		{"another driver's", "lan", named, "network lan exists but its driver is macvlan", exitNoTarget},
		{"another driver's by short id", "ffff11111111", named, "network lan exists but its driver is macvlan", exitNoTarget},
		{"slip in a name", "wied", named, "did you mean wide?", exitNoTarget},
		{"slip in a VNI", "89", named, "did you mean 80?", exitNoTarget},
		{"nothing near", "production", named, "there are: 55551111111", exitNoTarget},
		{"Docker away", "wide", &docker{at: "unix:///d.sock"}, "Docker does not answer at unix:///d.sock", exitNoTarget},
		{"out of a VNI's range", "16777217", named, "no network", exitNoTarget},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, err := resolve(c.arg, all, c.docker)
			if exitCode(err) != c.code {
				t.Fatalf("exit %d, want %d: %v", exitCode(err), c.code, err)
			}
			if err == nil && n.ID != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %v, want %s", n.ID, err, c.want)
			}
		})
	}
	if _, err := resolve("x", nil, named); exitCode(err) != exitNoTarget || !strings.Contains(err.Error(), "this daemon has none yet") {
		t.Errorf("with no network at all: %v", err)
	}
}

func TestNearest(t *testing.T) {
	words := []string{"ports", "peers", "fdb", "status"}
	for arg, want := range map[string][]string{
		"prots": {"ports"}, "port": {"ports"}, "Status": {"status"}, "fbd": {"fdb"}, "db": {"fdb"}, "zzz": nil, "": nil, "pers": {"peers"},
	} {
		if got := nearest(arg, words); !slices.Equal(got, want) {
			t.Errorf("nearest(%q) = %q, want %q", arg, got, want)
		}
	}
}

func TestDockerAddress(t *testing.T) {
	for at, want := range map[string]string{
		"unix:///var/run/docker.sock": "unix /var/run/docker.sock",
		"tcp://127.0.0.1:2375":        "tcp 127.0.0.1:2375",
		"tcp://[::1]:2375/":           "tcp [::1]:2375",
		"tcp://host":                  "",
		"ssh://me@host":               "",
		"unix://":                     "",
		"/var/run/docker.sock":        "",
	} {
		network, address, err := dockerAddress(at)
		if (err != nil) != (want == "") || err == nil && network+" "+address != want {
			t.Errorf("%s: %s %s %v, want %q", at, network, address, err, want)
		}
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9960: "10 kB", 999499: "999 kB", 999500: "1.0 MB", 1 << 63: "9.2 EB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
	for s, want := range map[int64]string{0: "0s", 59: "59s", 60: "1m 0s", 3600: "1h 0m", 12000: "3h 20m", 86400: "1d 0h"} {
		if got := agoText(s); got != want {
			t.Errorf("agoText(%d) = %q, want %q", s, got, want)
		}
	}
	if got := countsText(map[string]uint64{"runt": 1, "mtu": 5, "spoofed": 1, "none": 0}); got != "mtu 5, runt 1, spoofed 1" {
		t.Errorf("countsText: %q", got)
	}
}
