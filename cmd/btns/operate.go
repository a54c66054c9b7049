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
		operateCmd("initiate", "Set up a child SA and wait until it is up"),
		operateCmd("terminate", "Delete the SAs of a child or a connection, telling the peer"),
		operateCmd("rekey", "Give new keys to the SAs of a child or a connection"),
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

func operateCmd(op, short string) *cobra.Command {
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
			switch {
			case op == "initiate":
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is up\n", args[0])
				return err
			case n == 0:
				return fmt.Errorf("nothing to %s: no SA of %s is up", op, args[0])
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s of %d SAs\n", args[0], op, n)
			return err
		},
	}
	cmd.Flags().StringVar(&socket, "control", "", "control socket (default: in the runtime directory)")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "give up after this long")
	return cmd
}
