package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"github.com/tapestry-net/tapestry/capture"
	"github.com/tapestry-net/tapestry/capture/dissect"
	"github.com/tapestry-net/tapestry/capture/pcapng"
)

// saveBlocks saves blocks as a pcapng file that only its owner may read. The file is complete also if the blocks break off.
func saveBlocks(ctx context.Context, from blocks, path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = writeBlocks(ctx, from, f)
	return errors.Join(err, f.Close())
}

// writeBlocks writes blocks as pcapng, without the verdicts that Wireshark's tools cannot save.
func writeBlocks(ctx context.Context, from blocks, to io.Writer) (err error) {
	var w *pcapng.Writer
	for {
		b, read := from.Next()
		if section, ok := b.(*pcapng.Section); ok && w == nil {
			w = pcapng.NewWriter(to, *section)
		} else if b != nil && w != nil {
			err = writeBlock(w, b)
		}
		if read == nil && ctx.Err() != nil {
			read = errors.New("interrupted")
		}
		if w != nil && err == nil && (read != nil || w.Size() > 1<<20) {
			err = w.Flush()
		}
		switch {
		case err != nil:
			return err
		case errors.Is(read, io.EOF):
			return nil
		case read != nil:
			return fmt.Errorf("the frames broke off: %w", bare(read))
		}
	}
}

func writeBlock(w *pcapng.Writer, b pcapng.Block) (err error) {
	switch b := b.(type) {
	case *pcapng.Interface:
		_, err = w.AddInterface(b)
	case *pcapng.Packet:
		p := *b
		p.Verdict = nil
		err = w.WritePacket(&p)
	case pcapng.Names:
		err = w.Names(b)
	case *pcapng.Stats:
		err = w.Statistics(b)
	}
	return err
}

// printLines writes a line for each frame.
func printLines(from blocks, l *look, w io.Writer) error {
	for {
		b, err := from.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the frames broke off: %w", bare(err))
		}
		p, ok := b.(*pcapng.Packet)
		if !ok {
			continue
		}
		end := ""
		if d, ok := capture.ReadDetail(p); ok {
			end = "  " + d.Verdict.String()
			if d.Verdict.Drop() {
				end = fmt.Sprintf("  DROP %s: %s", d.Verdict, capture.Reason(d.Verdict))
			}
			if d.Fault != 0 {
				end += " fault=" + d.Fault.String()
			}
		}
		line := dissect.Dissect(p.Data, p.Len).Line(func(a netip.Addr) string { return l.n.Addr(a) })
		if _, err := fmt.Fprintf(w, "%s %s%s\n", time.Unix(0, p.Time).Format("15:04:05.000000"), line, end); err != nil {
			return err
		}
	}
}
