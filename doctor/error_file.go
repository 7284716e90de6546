package doctor

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tapestry-net/tapestry/cmd/human"
)

// mostErrorFile is how much of an error file is read, in bytes.
const maxErrorFile = 4 << 10

// readErrorFile gives the sentence in such a file and when it was written, "" if there is none. The file is a plugin's: it
// may hold anything, and lead anywhere.
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

// parseErrorFile gives one line of what is seen, whatever the text is.
func parseErrorFile(text []byte) (sentence, when string) {
	sentence = human.OneLine(strings.TrimSpace(strings.ToValidUTF8(string(text), "")))
	if first, rest, ok := strings.Cut(sentence, " "); ok {
		if _, err := time.Parse(time.RFC3339, first); err == nil {
			sentence, when = rest, first
		}
	}
	return strings.TrimPrefix(sentence, "tapestry: "), when
}
