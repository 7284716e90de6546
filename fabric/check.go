package fabric

import (
	"errors"
	"io/fs"
)

// ErrVersion is of a whole record that another version of tapestry has written.
var ErrVersion = errors.New("run the tapestry that wrote it")

// CheckState reads every record in a state directory as Open does, and gives their number. It changes
// nothing, and a daemon may be at work there.
func CheckState(dir string) (networks int, err error) {
	for range 10 {
		var records []record
		records, err = store{dir}.load()
		networks = len(records)
		if !errors.Is(err, fs.ErrNotExist) { // else one was removed between its listing and its reading
			break
		}
	}
	if err == nil {
		_, err = store{dir}.loadSwarm()
	}
	return networks, err
}
