package main

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

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/cmd/exit"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

// extcapFile is the program's name in Wireshark's folder.
const extcapFile = "tapestry"

// extcapMark tells our file from others.
const extcapMark = "# tapestry extcap: shows tapestry's networks among Wireshark's interfaces"

func newExtcapInstall(c *cli) *cobra.Command {
	dir := ""
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put tapestry into Wireshark's folder of capture programs",
		Long: `Put a small script into Wireshark's extcap folder, which runs this very binary, with --api-socket if it is given
here: without, it finds the daemon as every command does. The folder is what tshark or wireshark says (-G folders), or --dir.`,
		Example: `  tapestry extcap install
  tapestry extcap install --dir ~/.local/lib/wireshark/extcap`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := extcapPath(cmd.Context(), dir)
			if err != nil {
				return err
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			socket := "" // the daemon may be another plugin tomorrow
			if c.Socket != "" {
				socket = "--api-socket " + shellWord(c.Socket) + " "
			}
			script := fmt.Sprintf("#!/bin/sh\n%s\nexec %s extcap %s\"$@\"\n", extcapMark, shellWord(binary), socket)
			if err := replaceExtcap(path, []byte(script)); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "installed %s; start Wireshark again, or try: tshark -D\n", path)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "",
		"`DIR` of Wireshark's capture programs (default: what tshark or wireshark says)")
	_ = cmd.MarkFlagDirname("dir") // the flag exists
	return cmd
}

func newExtcapRemove() *cobra.Command {
	dir := ""
	cmd := &cobra.Command{
		Use:               "remove",
		Short:             "Take tapestry out of Wireshark's folder again",
		Long:              `Remove the script that tapestry extcap install has put into Wireshark's extcap folder.`,
		Example:           `  tapestry extcap remove`,
		Args:              usage.Arguments(0, 0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := extcapPath(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if err := ours(path); err != nil {
				return err
			}
			if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
				return exit.Errorf(exit.Failure, "it is not installed: there is no %s", path)
			} else if err != nil {
				return exit.Errorf(exit.Failure, "%w", err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "removed", path)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "",
		"`DIR` of Wireshark's capture programs (default: what tshark or wireshark says)")
	_ = cmd.MarkFlagDirname("dir") // the flag exists
	return cmd
}

// extcapPath is where the script belongs.
func extcapPath(ctx context.Context, dir string) (string, error) {
	if dir != "" {
		return filepath.Join(dir, extcapFile), nil
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
	return filepath.Join(global, extcapFile), nil
}

// ours is an error if something else stands at path.
func ours(path string) error {
	text, err := os.ReadFile(path)
	if err == nil && !bytes.Contains(text, []byte(extcapMark)) {
		return exit.Errorf(exit.Failure, "%s is not tapestry's: move it away or choose another --dir", path)
	}
	return nil
}

// replaceExtcap puts the script at path, whole or not at all.
func replaceExtcap(path string, script []byte) error {
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

// shellWord quotes a word for a shell.
func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
