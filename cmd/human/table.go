package human

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// PrintJSON writes one array or one object.
func PrintJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// PrintTable writes rows under a head, in columns. An empty cell is shown as -.
func PrintTable(w io.Writer, head []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, cmp.Or(cell, "-"))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// PrintSettings is PrintTable for a table whose last column is of settings: where no row has any it is left away.
func PrintSettings(w io.Writer, head []string, rows [][]string) error {
	last := len(head) - 1
	if slices.ContainsFunc(rows, func(row []string) bool { return row[last] != "" }) {
		return PrintTable(w, head, rows)
	}
	short := make([][]string, len(rows))
	for i, row := range rows {
		short[i] = row[:last]
	}
	return PrintTable(w, head[:last], short)
}

// Bytes writes a size in decimal units, as Docker does.
func Bytes(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/1000, []string{"kB", "MB", "GB", "TB", "PB", "EB"}
	for f >= 999.5 && len(units) > 1 {
		f, units = f/1000, units[1:]
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %s", f, units[0])
	}
	return fmt.Sprintf("%.0f %s", f, units[0])
}

// Counts writes the counts that are not zero, the largest first.
func Counts(m map[string]uint64) string {
	var words []string
	for k, n := range m {
		if n > 0 {
			words = append(words, k)
		}
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(a, b)) })
	for i, k := range words {
		words[i] = fmt.Sprintf("%s %d", k, m[k])
	}
	return strings.Join(words, ", ")
}

// State is "up", or "down" with the reason.
func State(why string) string {
	if why == "" {
		return "up"
	}
	return "down: " + why
}

// VNI writes a VNI; "" of 0, which a network without links to other hosts has.
func VNI(vni uint32) string {
	if vni == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(vni), 10)
}

// Age writes seconds in at most two units: 45s, 12m 3s, 3h 20m, 5d 2h.
func Age(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", seconds)
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", seconds/60, seconds%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh %dm", seconds/3600, seconds/60%60)
	}
	return fmt.Sprintf("%dd %dh", seconds/86400, seconds/3600%24)
}

// Number writes a number without commas.
func Number(n uint64) string { return strconv.FormatUint(n, 10) }

// MTU leaves an MTU that is not known yet empty.
func MTU(mtu int) string {
	if mtu == 0 {
		return ""
	}
	return strconv.Itoa(mtu)
}
