package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tapestry-net/tapestry/capture/extcap"
	"github.com/tapestry-net/tapestry/cmd/usage"
)

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
			path, err := extcap.Path(cmd.Context(), dir)
			if err != nil {
				return err
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			socket := "" // the daemon may be another plugin tomorrow
			if c.Socket != "" {
				socket = "--api-socket " + extcap.ShellWord(c.Socket) + " "
			}
			if err := extcap.Install(path, binary, socket); err != nil {
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
			path, err := extcap.Path(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if err := extcap.Remove(path); err != nil {
				return err
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
