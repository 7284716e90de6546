package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tapestry-net/tapestry/fabric"
	"github.com/tapestry-net/tapestry/fault"
)

// Options about limits, of a network (for each of its containers) and of an endpoint.
const (
	optRate     = "tapestry.rate"
	optStorm    = "tapestry.storm"
	optIsolated = "tapestry.isolated"
	optAllowTo  = "tapestry.allow-to"
	optMSS      = "tapestry.mss"
)

// minRate is the smallest rate, in bits a second: with less, a frame takes more than a second.
const minRate = 64_000

// limitOptions are the options about limits.
var limitOptions = []option[fabric.Limits]{{optRate, setRate}, {optStorm, setStorm}, {optIsolated, setIsolated}, {optAllowTo, setAllowTo}, {optMSS, setMSS}}

func setRate(l *fabric.Limits, value string) (err error) {
	if value == "off" {
		l.Rate = fabric.NoLimit
		return nil
	}
	if l.Rate, err = fault.ParseRate(value); err != nil || l.Rate < minRate {
		return errors.New("want bits a second from 64kbit on, as in 100mbit or 1.5gbit, or off")
	}
	return nil
}

func setStorm(l *fabric.Limits, value string) error {
	if value == "off" {
		l.Storm = fabric.NoLimit
		return nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n <= 0 {
		return errors.New("want a number of frames a second, as in 1000, or off")
	}
	l.Storm = n
	return nil
}

// The smallest MSS is that which Linux takes for the least (TCP_MIN_MSS), the largest what fits the longest IPv4 packet.
const (
	minMSS = 88
	maxMSS = 65495
)

func setMSS(l *fabric.Limits, value string) error {
	switch n, err := strconv.Atoi(value); {
	case value == "off":
		l.MSS = fabric.NoLimit
	case value == "auto":
		l.MSS = fabric.AutoMSS
	case err != nil || n < minMSS || n > maxMSS:
		return fmt.Errorf("want auto (what fits the path to another host), off, or bytes from %d to %d, as in 1360", minMSS, maxMSS)
	default:
		l.MSS = n
	}
	return nil
}

func setIsolated(l *fabric.Limits, value string) error {
	var is bool
	if err := setOnOff(&is, value, " (it talks only with those of "+optAllowTo+")", " (with all)"); err != nil {
		return err
	}
	l.Isolated = value
	return nil
}

func setAllowTo(l *fabric.Limits, value string) error {
	l.AllowTo = nil
	for _, s := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '+' || r == ' ' }) { // in docker's --network no comma may stand
		p, err := netip.ParsePrefix(s)
		if a, e := netip.ParseAddr(s); e == nil && a.Zone() == "" {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return fmt.Errorf("%s: want IP addresses or subnets, as in 10.77.0.3,fd77::/64", quote(s))
		}
		l.AllowTo = append(l.AllowTo, p.Masked())
	}
	if l.AllowTo == nil {
		return errors.New("want IP addresses or subnets, as in 10.77.0.3,fd77::/64")
	}
	return nil
}
