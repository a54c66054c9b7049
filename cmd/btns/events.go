package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/sockets"
)

func eventsCmd() *cobra.Command {
	var socket string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "events", Short: "Say what becomes of a running host's SAs, as it happens", Args: cobra.NoArgs,
		Long: "Print one line for each event of a running host until interrupted: SAs that come, go and are rekeyed,\n" +
			"and why they do not. The kinds are those of strongSwan's VICI.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if socket == "" {
				socket = defaultControl()
			}
			out := cmd.OutOrStdout()
			for e, err := range sockets.WatchControl(cmd.Context(), socket) {
				if err != nil {
					return exitQuietly(cmd.Context(), err)
				}
				line := e.Time.Local().Format(time.TimeOnly+".000") + " " + e.String()
				if asJSON {
					b, err := json.Marshal(e)
					if err != nil {
						return err
					}
					line = string(b)
				}
				if _, err := fmt.Fprintln(out, line); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&socket, "control", "", "control socket (default: in the runtime directory)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, one object a line")
	return cmd
}
