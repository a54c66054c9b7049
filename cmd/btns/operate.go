package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/sockets"
)

// operateCmds are the commands that act on a running host's SAs by name.
func operateCmds() []*cobra.Command {
	return []*cobra.Command{
		operateCmd("initiate", "Set up a child SA, of a connection its first, and wait until it is up", "%[2]s is up\n"),
		operateCmd("terminate", "Delete the SAs of a child or a connection, telling the peer", "%[2]s: terminated %[1]s\n"),
		operateCmd("rekey", "Have new keys made for the SAs of a child or a connection", "%[2]s: asked the peer for new keys for %[1]s; status and events tell what came of it\n"),
	}
}

// oneArg wants one argument and says what it is.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s needs %s and nothing else: %s", cmd.CommandPath(), what, cmd.UseLine())
		}
		return nil
	}
}

// operateCmd is one of them; done is what it prints of how many SAs and the name.
func operateCmd(op, short, done string) *cobra.Command {
	var socket string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: op + " NAME", Short: short, Args: oneArg("the name of a child or a connection"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if socket == "" {
				socket = defaultControl()
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			var n int
			if err := sockets.AskControl(ctx, socket, op, args[0], &n); err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("nothing to %s: no SA of %s is up", op, args[0])
			}
			sas := "1 SA"
			if n > 1 {
				sas = fmt.Sprintf("%d SAs", n)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), done, sas, args[0])
			return err
		},
	}
	cmd.Flags().StringVar(&socket, "control", "", "control socket (default: in the runtime directory)")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this long")
	return cmd
}
