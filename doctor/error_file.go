package doctor

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/cmd/human"
)

// maxErrorFile is the number of bytes that are read of an error file.
const maxErrorFile = 4 << 10

// readErrorFile returns the sentence that a failed start wrote to the file, and the time before it (RFC 3339), "" if there is
// none. A plugin writes the file, so it is not trusted: it may have any content, or be a symbolic link or a FIFO.
func readErrorFile(path string) (sentence, when string) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", ""
	}
	text := make([]byte, maxErrorFile)
	n, _ := f.Read(text)
	return parseErrorFile(text[:n])
}

// parseErrorFile returns the text as one printable line, without the time and the program's name before it.
func parseErrorFile(text []byte) (sentence, when string) {
	sentence = human.OneLine(strings.TrimSpace(strings.ToValidUTF8(string(text), "")))
	if first, rest, ok := strings.Cut(sentence, " "); ok {
		if _, err := time.Parse(time.RFC3339, first); err == nil {
			sentence, when = rest, first
		}
	}
	return strings.TrimPrefix(sentence, "tapestry: "), when
}
