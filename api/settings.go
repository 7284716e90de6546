package api

import (
	"fmt"
	"strconv"
	"strings"
)

// Settings are what a port's frames are held to, as the options tapestry.guard, … say: what is in force. A network's are those of containers without their own.
type Settings struct {
	Guard    string   `json:"guard"`
	Allow    []string `json:"allow"`
	Rate     int64    `json:"rate"`  // bits a second; 0: no limit
	Storm    int64    `json:"storm"` // frames a second; 0: no limit
	Isolated bool     `json:"isolated"`
	AllowTo  []string `json:"allow_to"`
	MSS      string   `json:"mss"` // off, auto, or bytes
}

// DefaultStorm is Settings.Storm if no option says anything.
const DefaultStorm = 50_000

// Text is what differs from the defaults, as options without tapestry. before them. vlan is a port's, snooping a network's.
func (s Settings) Text(vlan string, snooping bool) string {
	onOff := map[bool]string{true: "on", false: "off"}
	rate, storm := "off", "off"
	if s.Rate > 0 {
		rate = rateText(s.Rate)
	}
	if s.Storm > 0 {
		storm = strconv.FormatInt(s.Storm, 10)
	}
	var all []string
	for _, o := range []struct{ key, value, unless string }{
		{"vlan", vlan, ""}, {"guard", s.Guard, "full"}, {"allow", strings.Join(s.Allow, "+"), ""}, {"rate", rate, "off"}, {"storm", storm, strconv.Itoa(DefaultStorm)},
		{"isolated", onOff[s.Isolated], "off"}, {"allow-to", strings.Join(s.AllowTo, "+"), ""}, {"mss", s.MSS, "off"}, {"snooping", onOff[snooping], "off"},
	} {
		if o.value != o.unless {
			all = append(all, o.key+"="+o.value)
		}
	}
	return strings.Join(all, " ")
}

// rateText is a rate of 64 kbit/s or more as its option has it.
func rateText(bits int64) string {
	n, unit := float64(bits)/1e3, "kbit"
	if bits >= 1e9 {
		n, unit = n/1e6, "gbit"
	} else if bits >= 1e6 {
		n, unit = n/1e3, "mbit"
	}
	return fmt.Sprintf("%.6g%s", n, unit)
}
