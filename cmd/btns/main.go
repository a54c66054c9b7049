// Command btns is IPsec in one unprivileged process: IKEv2 with or without prior trust
// (BTNS, RFC 5386), ESP, TCP/IP and connection latching (RFC 5660).
//
//	btns demo            two hosts, one relay between them, and the proof that it saw nothing
//	btns up -c FILE      run a host from a configuration file
//	btns status          what a running host does
//	btns events          what becomes of its SAs, as it happens
//	btns initiate NAME   set a child SA up; terminate and rekey act on what is up
//	btns check -c FILE   what is wrong with a configuration file
//	btns reference       a configuration file with every key explained
//	btns keygen FILE     a new key
//	btns bench esp       how fast ESP is here; bench ike measures handshakes and memory
//	btns version         what this is
//
// Errors are one sentence on standard error, and exit status 1. Every listing has --json.
//
// Ownership and concurrency: each command owns the one host it runs; nothing here is
// imported. Limits are those of package sockets.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once, whatever keeps it
	err := interrupted(ctx, root().ExecuteContext(ctx))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "btns:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "btns",
		Short:         "IPsec in one unprivileged process: IKEv2 with BTNS, ESP, TCP/IP, connection latching",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.CompletionOptions.HiddenDefaultCmd = true
	cmd.AddCommand(operateCmds()...)
	cmd.AddCommand(demoCmd(), demoHostCmd(), upCmd(), statusCmd(), eventsCmd(), checkCmd(), referenceCmd(), keygenCmd(), benchCmd(), versionCmd())
	return cmd
}

// interrupted is the reason of an error after somebody wished to stop: that wish, whatever
// broke off because of it.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// exitQuietly tells an error that ends the program from the wish to stop it.
func exitQuietly(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
