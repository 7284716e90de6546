package bed

import (
	"errors"
	"os"
	"os/exec"
)

// Ready returns an error that says what this machine lacks for any bed. It adds the directories of system programs to PATH.
func Ready() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, for network namespaces")
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return errors.New("needs " + tool + " (Debian: apt-get install iproute2 util-linux)")
		}
	}
	return nil
}
