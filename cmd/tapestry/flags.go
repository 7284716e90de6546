package main

import (
	"errors"
	"fmt"
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
