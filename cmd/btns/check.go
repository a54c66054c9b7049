package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/btns-go/btns/sockets/config"
)

func checkCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "check -c FILE", Short: "Say what is wrong with a configuration file", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := load(cmd.Context(), file, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			if err != nil {
				return err
			}
			warnings, err := f.Check()
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintf(cmd.OutOrStdout(), "warning: %s\n", w)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d connections, %d policies, %d forwards, %d exposed: good\n",
				file, len(f.Host.Connections), len(f.Host.Policies), len(f.Forwards), len(f.Expose))
			return nil
		},
	}
	configFlag(cmd, &file)
	return cmd
}

// load reads a configuration file until somebody wishes to stop: who writes to a pipe may
// take for ever.
func load(ctx context.Context, path string, log *slog.Logger) (*config.File, error) {
	type result struct {
		f   *config.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		f, err := config.Load(path, log)
		done <- result{f, err}
	}()
	select {
	case r := <-done:
		return r.f, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration file (YAML)")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag was defined a line above
	}
}
