package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, errors.New("want a port from 1 to 65535")
	}
	return uint16(n), nil
}

// parseMetrics reads where metrics are served: whoever shall read them from outside this host has to be given an address.
func parseMetrics(s string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = "", s
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if host != "" && host != "localhost" {
		if addr, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, errors.New("want a port, or an IP address of this host and a port, such as 192.0.2.1:9469; 0.0.0.0 is all of its addresses")
		}
	}
	n, err := parsePort(port)
	return netip.AddrPortFrom(addr, n), err
}

func parseGrace(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, errors.New("want a duration greater than zero, such as 60s or 5m")
	}
	return d, nil
}

func parseWorkers(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > 256 {
		return 0, errors.New("want a number from 1 to 256, or 0 to let tapestry choose")
	}
	return n, nil
}

func parseDir(s string) (string, error) {
	if !filepath.IsAbs(s) {
		return "", errors.New("want an absolute path")
	}
	return filepath.Clean(s), nil
}

func parsePath(s string) (string, error) {
	if s == "" {
		return "", errors.New("want a path")
	}
	return s, nil
}

func parseSocket(s string) (string, error) {
	if !filepath.IsAbs(s) || filepath.Ext(s) != ".sock" {
		return "", errors.New("want an absolute path that ends in .sock")
	}
	return filepath.Clean(s), nil
}

// parseDriver reads a driver's name: it becomes a file name, and Docker's -d must be able to say it.
func parseDriver(s string) (string, error) {
	if !regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,31}$`).MatchString(s) {
		return "", errors.New("want up to 32 letters, digits, '_', '.' or '-', beginning with a letter or digit")
	}
	return s, nil
}

// oneOf reads a word from a short list.
func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		for _, w := range words {
			if s == w {
				return s, nil
			}
		}
		return "", fmt.Errorf("want %s", strings.Join(words, ", "))
	}
}

// parseRecorder reads the size of the recorder's memory, of which the daemon wants a power of two.
func parseRecorder(s string) (int, error) {
	if s == "0" {
		return 0, nil
	}
	n, err := parseSize(s)
	if err != nil || n < 1<<20 || n > 1<<30 {
		return 0, errors.New("want a size from 2MB to 1GiB, such as 32MB, or 0 for none")
	}
	size := 1 << 21
	for int64(size) < n {
		size *= 2
	}
	return size, nil
}
