package extcap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tapestry-net/tapestry/cmd/exit"
)

// file is the program's name in Wireshark's folder.
const file = "tapestry"

// mark tells our file from others.
const mark = "# tapestry extcap: shows tapestry's networks among Wireshark's interfaces"

// Install puts a script at path that runs "BINARY extcap FLAGS", whole or not at all.
func Install(path, binary, flags string) error {
	return replace(path, fmt.Appendf(nil, "#!/bin/sh\n%s\nexec %s extcap %s\"$@\"\n", mark, ShellWord(binary), flags))
}

// Remove removes the script at path.
func Remove(path string) error {
	if err := ours(path); err != nil {
		return err
	}
	if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
		return exit.Errorf(exit.Failure, "it is not installed: there is no %s", path)
	} else if err != nil {
		return exit.Errorf(exit.Failure, "%w", err)
	}
	return nil
}

// Path is where the script belongs: in dir, or if that is "" in the folder that tshark or wireshark names.
func Path(ctx context.Context, dir string) (string, error) {
	if dir != "" {
		return filepath.Join(dir, file), nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var global, personal string
	for _, program := range []string{"tshark", "wireshark"} {
		out, err := exec.CommandContext(ctx, program, "-G", "folders").Output()
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(line, ":")
			switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
			case "Extcap path", "Global Extcap path":
				global = value
			case "Personal Extcap path":
				personal = value
			}
		}
		break
	}
	if personal != "" && os.Geteuid() != 0 {
		global = personal
	}
	if global == "" {
		return "", exit.Errorf(exit.Failure, "neither tshark nor wireshark says where its capture programs are: name the folder by --dir, see Wireshark's Help, About, Folders")
	}
	return filepath.Join(global, file), nil
}

// ours is an error if something else stands at path.
func ours(path string) error {
	text, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(text, []byte(mark)) {
		return exit.Errorf(exit.Failure, "%s is not tapestry's: move it away or choose another --dir", path)
	}
	return nil
}

// replace puts the script at path, whole or not at all.
func replace(path string, script []byte) error {
	if err := ours(path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return exit.Errorf(exit.Failure, "make Wireshark's folder: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tapestry-")
	if err != nil {
		return exit.Errorf(exit.Failure, "write into Wireshark's folder: %w (run it as root, or choose another --dir)", err)
	}
	defer os.Remove(f.Name()) // it has gone when all went well
	_, err = f.Write(script)
	err = errors.Join(err, f.Chmod(0o755), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return exit.Errorf(exit.Failure, "write %s: %w", path, err)
	}
	return nil
}

// ShellWord quotes a word for a shell.
func ShellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
