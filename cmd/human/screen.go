package human

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A Screen is a terminal on which a picture is drawn again and again (ECMA-48; the alternate screen is xterm's).
type Screen struct {
	to      *os.File
	Resized chan os.Signal
	buf     bytes.Buffer
}

// NewScreen takes the terminal w; false if it is none.
func NewScreen(w io.Writer) (*Screen, bool) {
	f, ok := w.(*os.File)
	if !ok || !IsTerminal(w) {
		return nil, false
	}
	s := &Screen{to: f, Resized: make(chan os.Signal, 1)}
	signal.Notify(s.Resized, syscall.SIGWINCH)
	fmt.Fprint(f, "\x1b[?1049h\x1b[?25l") // alternate screen, no cursor
	return s, true
}

// Close gives the terminal back as it was.
func (s *Screen) Close() {
	signal.Stop(s.Resized)
	fmt.Fprint(s.to, "\x1b[?25h\x1b[?1049l")
}

// Size is the window's, in characters.
func (s *Screen) Size() (rows, columns int) {
	w, err := unix.IoctlGetWinsize(int(s.to.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Row == 0 || w.Col == 0 {
		return 24, 80
	}
	return int(w.Row), int(w.Col)
}

// Draw shows text in place of what was there, cut to the window, in one write so that it does not flicker.
func (s *Screen) Draw(text []byte) error {
	rows, columns := s.Size()
	s.buf.Reset()
	s.buf.WriteString("\x1b[H")
	n := 0
	for ; n < rows && len(text) > 0; n++ {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		if n > 0 {
			s.buf.WriteString("\r\n")
		}
		s.buf.WriteString("\x1b[K") // erase before writing: after a line as wide as the window it would erase the last character
		s.buf.Write(cutLine(line, columns))
	}
	if n < rows {
		s.buf.WriteString("\r\n\x1b[J")
	}
	_, err := s.to.Write(s.buf.Bytes())
	return err
}

// cutLine is what of line fits so many columns.
func cutLine(line []byte, columns int) []byte {
	at := 0
	for range columns {
		_, n := utf8.DecodeRune(line[at:])
		at += n
	}
	return line[:at]
}
